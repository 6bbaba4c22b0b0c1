//! Names of metrics and labels, as a proxy exports them and as Linkerd's scrape configuration adds them.
//! Must not know queries.

/// Responses by classification; counted when the stream ends.
pub const RESPONSES: &str = "response_total";
/// Requests, counted when they are sent or come in.
pub const REQUESTS: &str = "request_total";
/// Milliseconds to the first frame of the response, as a cumulative histogram.
pub const LATENCY_BUCKETS: &str = "response_latency_ms_bucket";
/// A constant 1 that every proxy exports, and nothing but a proxy: the sign that a pod's proxy was scraped.
pub const BUILD_INFO: &str = "proxy_build_info";
/// When the process began, in seconds since the epoch. Applications export one too.
pub const PROCESS_START: &str = "process_start_time_seconds";

/// The metric's own name.
pub const NAME: &str = "__name__";
/// `inbound` or `outbound`.
pub const DIRECTION: &str = "direction";
/// The value of [`DIRECTION`] for calls that the pod answers.
pub const INBOUND: &str = "inbound";
/// The value of [`DIRECTION`] for calls that the pod makes.
pub const OUTBOUND: &str = "outbound";
/// Where an outbound call went: the namespace of its endpoint's pod.
pub const DST_NAMESPACE: &str = "dst_namespace";
/// The Service whose endpoint it is.
pub const DST_SERVICE: &str = "dst_service";
/// The Deployment of the endpoint's pod.
pub const DST_DEPLOYMENT: &str = "dst_deployment";
/// The ReplicaSet of the endpoint's pod.
pub const DST_POD_TEMPLATE_HASH: &str = "dst_pod_template_hash";
/// The endpoint's port.
pub const TARGET_PORT: &str = "target_port";
/// The pod's port that was called. Proxies listen on ports of their own: scrapes and probes show up as 4191.
pub const SERVER_PORT: &str = "srv_port";
/// The proxy's own port, where it is scraped and probed.
pub const PROXY_ADMIN_PORT: &str = "4191";
/// `true` for calls that came through the mesh.
pub const TLS: &str = "tls";
/// The inbound route.
pub const ROUTE_NAME: &str = "route_name";
/// The value of [`ROUTE_NAME`] for the kubelet's probes.
pub const PROBE: &str = "probe";
/// `success` or `failure`.
pub const CLASSIFICATION: &str = "classification";
/// The value of [`CLASSIFICATION`] for failures.
pub const FAILURE: &str = "failure";
/// The status as a *number* here (outbound route metrics have names); empty when the call was not gRPC.
pub const GRPC_STATUS: &str = "grpc_status";
/// The HTTP status of an answer; absent where none began.
pub const STATUS_CODE: &str = "status_code";
/// The upper bound of a bucket.
pub const LE: &str = "le";

/// Added by the scrape.
pub const NAMESPACE: &str = "namespace";
/// Added by the scrape, from the name of the pod's ReplicaSet.
pub const DEPLOYMENT: &str = "deployment";
/// Added by the scrape.
pub const POD: &str = "pod";
/// Added by the scrape, from the pod's label `pod-template-hash`.
pub const POD_TEMPLATE_HASH: &str = "pod_template_hash";

/// What a route's metrics of backends say of the route's parent.
pub const PARENT_KIND: &str = "parent_kind";
/// The value of [`PARENT_KIND`] for an apex Service.
pub const SERVICE: &str = "Service";
/// The apex Service's namespace.
pub const PARENT_NAMESPACE: &str = "parent_namespace";
/// The apex Service.
pub const PARENT_NAME: &str = "parent_name";
/// The namespace of the arm's Service.
pub const BACKEND_NAMESPACE: &str = "backend_namespace";
/// The arm's Service.
pub const BACKEND_NAME: &str = "backend_name";
