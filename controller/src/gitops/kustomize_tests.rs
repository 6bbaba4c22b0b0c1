use super::*;

const OVERLAY_FILE: &str = "\
# The canary.
resources: [../base]
nameSuffix: -canary
images:
  - name: web # as in the base
    newTag: '1.0.0'
commonAnnotations:
  serin.dev/revision: '1.0.0' # the pipeline's
configMapGenerator:
  - name: web
    literals:
      - MODE=slow # until summer
      - \"LEVEL=1\"
";

const PATCH_FILE: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web-canary}
spec:
  template:
    metadata:
      labels: {arm: canary}
      annotations:
        serin.dev/revision: \"1.0.0\"
    spec:
      # two of them
      containers:
        - name: web
          image: registry.example.com:5000/web:1.0.0 # ours
          env:
            - name: MODE
              value: slow # until summer
        - name: log
          image: log:2
";

fn read(text: &str) -> Values {
    Values::parse(text).unwrap()
}

fn create(text: &str, image: Option<&str>, new: NewRevision<'_>) -> Result<String, YamlError> {
    let values = read(text);
    let arm = arm(values.root(), image)?;
    with_arm(&values, &with_revision(values.root(), &arm.says, image, new)?)
}

fn new<'a>(tag: &'a str, set: &'a [(String, String)]) -> NewRevision<'a> {
    NewRevision {
        name: "1.1.0",
        tag,
        repository: None,
        set,
    }
}

fn set(key: &str, value: &str) -> Vec<(String, String)> {
    vec![(key.to_owned(), value.to_owned())]
}

#[test]
fn a_revision_of_an_overlay_changes_its_values_and_no_comment() {
    let text = create(OVERLAY_FILE, None, new("1.1.0", &set("env.MODE", "fast"))).unwrap();
    let expected = OVERLAY_FILE
        .replace("'1.0.0'", "'1.1.0'")
        .replace("- MODE=slow", "- \"MODE=fast\"");
    assert_eq!(text, expected);
    assert_eq!(
        arm(read(&text).root(), None).unwrap().revision.as_deref(),
        Some("1.1.0")
    );
    let more = create(OVERLAY_FILE, None, new("1.0.0", &set("env.NEW", "yes"))).unwrap();
    assert!(more.ends_with("      - \"LEVEL=1\"\n      - \"NEW=yes\"\n"), "{more}");
}

#[test]
fn a_digest_takes_the_tags_place_and_a_tag_the_digests() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let text = create(OVERLAY_FILE, None, new(&digest, &[])).unwrap();
    assert!(
        text.contains(&format!("  - name: web # as in the base\n    digest: {digest}\ncommon")),
        "{text}"
    );
    let text = create(&text, None, new("1.2.0", &[])).unwrap();
    assert!(
        text.contains("    newTag: 1.2.0\ncommon") && !text.contains("digest"),
        "{text}"
    );
    let text = create(PATCH_FILE, Some("web"), new(&digest, &[])).unwrap();
    assert!(
        text.contains(&format!("image: registry.example.com:5000/web@{digest} # ours\n")),
        "{text}"
    );
}

#[test]
fn a_revision_of_a_patch_changes_its_container_only() {
    let text = create(PATCH_FILE, Some("web"), new("1.1.0", &set("env.MODE", "fast"))).unwrap();
    let expected = PATCH_FILE
        .replace("\"1.0.0\"", "\"1.1.0\"")
        .replace("/web:1.0.0", "/web:1.1.0")
        .replace("value: slow", "value: fast");
    assert_eq!(text, expected);
    let more = create(PATCH_FILE, Some("web"), new("1.0.0", &set("env.B", "true"))).unwrap();
    assert!(
        more.contains("              value: slow # until summer\n            - name: B\n              value: \"true\"\n        - name: log"),
        "{more}"
    );
}

#[test]
fn a_promotion_leaves_labels_names_and_replicas_where_they_are() {
    let stable = PATCH_FILE
        .replace("web-canary", "web")
        .replace("arm: canary", "arm: stable")
        .replace("spec:\n  template", "spec:\n  replicas: 3\n  template");
    let canary = create(PATCH_FILE, Some("web"), new("1.1.0", &set("env.EXTRA", "on"))).unwrap();
    let says = arm(read(&canary).root(), Some("web")).unwrap().says;
    let promoted = with_arm(&read(&stable), &says).unwrap();
    assert_eq!(arm(read(&promoted).root(), Some("web")).unwrap().says, says);
    let text = promoted
        .replace("            - name: EXTRA\n              value: \"on\"\n", "")
        .replace("1.1.0", "1.0.0");
    assert_eq!(text, stable);
}

#[test]
fn without_an_annotation_the_image_names_the_revision() {
    let overlay = OVERLAY_FILE.replace(
        "commonAnnotations:\n  serin.dev/revision: '1.0.0' # the pipeline's\n",
        "",
    );
    let revision = |text: &str, image: Option<&str>| arm(read(text).root(), image).unwrap().revision;
    assert_eq!(revision(&overlay, None).as_deref(), Some("1.0.0"));
    let patch = PATCH_FILE.replace("serin.dev/revision", "other");
    assert_eq!(revision(&patch, Some("web")).as_deref(), Some("1.0.0"));
    assert_eq!(revision(&patch, None), None, "two containers, and none is named");
}

#[test]
fn shapes_that_are_not_edited_say_what_to_do() {
    let said = |text: &str| {
        let values = read(text);
        arm(values.root(), None).map(drop).unwrap_err().to_string()
    };
    assert!(said("- op: replace\n  path: /x\n  value: 1\n").contains("a JSON patch"));
    assert!(said("kind: Service\n").contains("a Service"));
    let files = OVERLAY_FILE
        .replace("literals", "files")
        .replace("MODE=slow", "app.conf");
    assert!(said(&files).contains("app.conf"), "{}", said(&files));
    let shared = files
        .replace("app.conf", "../base/app.conf")
        .replace("LEVEL=1", "k=../x");
    assert!(arm(read(&shared).root(), None).is_ok());

    let error = create(PATCH_FILE, None, new("1", &[])).unwrap_err().to_string();
    assert!(
        error.contains("web, log") && error.contains("git.kustomize.image"),
        "{error}"
    );
    let error = create(OVERLAY_FILE, None, new("1", &set("replicas", "3")))
        .unwrap_err()
        .to_string();
    assert!(error.contains("replicas") && error.contains("env.NAME"), "{error}");
    let (overlay, patch) = (read(OVERLAY_FILE), read(PATCH_FILE));
    assert!(same_shape(overlay.root(), patch.root()).is_err());
    assert!(with_arm(&overlay, &arm(patch.root(), None).unwrap().says).is_err());
}
