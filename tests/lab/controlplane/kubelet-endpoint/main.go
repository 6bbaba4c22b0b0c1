// Kubelet-endpoint is the port of the lab's kubelet that the API server connects to: it answers `kubectl logs` and
// `kubectl port-forward`. Nobody else may ask: a client shows a certificate that the authority of -client-ca signed.
//
// It runs no pods. What it has to know of them stands in files that the kubelet writes, and pods.go reads.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/portforward"
)

const (
	// Those of a kubelet: a connection that carries nothing is kept for so long, and its streams have so long to come.
	idle     = 4 * time.Hour
	creation = 30 * time.Second
	// A client that connects and says nothing is not waited for any longer.
	header = 10 * time.Second
)

func main() {
	address := flag.String("address", "", "the `IP:PORT` to listen on")
	certificate := flag.String("tls-cert", "", "the `FILE` of its own certificate")
	key := flag.String("tls-key", "", "the `FILE` of the certificate's key")
	authority := flag.String("client-ca", "", "the `FILE` of the authority that signs clients' certificates")
	folder := flag.String("pods", "", "the `FOLDER` in which the kubelet tells of its pods")
	flag.Parse()
	if err := serve(*address, *certificate, *key, *authority, pods(*folder)); err != nil {
		fmt.Fprintf(os.Stderr, "kubelet-endpoint: %v\n", err)
		os.Exit(1)
	}
}

func serve(address, certificate, key, authority string, pods pods) error {
	pem, err := os.ReadFile(authority)
	if err != nil {
		return fmt.Errorf("reading the authority of clients: %w", err)
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(pem) {
		return fmt.Errorf("reading the authority of clients: %s has no certificate", authority)
	}
	server := http.Server{
		Addr:              address,
		Handler:           routes(pods),
		ReadHeaderTimeout: header,
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS12,
			ClientAuth: tls.RequireAndVerifyClientCert,
			ClientCAs:  clients,
		},
	}
	return fmt.Errorf("listening on %s: %w", address, server.ListenAndServeTLS(certificate, key))
}

// routes are those that the API server asks for; all others of a kubelet are not found here.
func routes(pods pods) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", func(w http.ResponseWriter, r *http.Request) {
		pod, err := pods.named(r.PathValue("namespace"), r.PathValue("pod"))
		if err == nil {
			err = pod.container(r.PathValue("container")).serve(w, r)
		}
		refuse(w, err)
	})
	forward := func(w http.ResponseWriter, r *http.Request) {
		pod, err := pods.named(r.PathValue("namespace"), r.PathValue("pod"))
		if err != nil {
			refuse(w, err)
			return
		}
		portforward.ServePortForward(w, r, forwarder{pod.IP}, r.PathValue("pod"), pod.UID,
			&portforward.V4Options{}, idle, creation, portforward.SupportedProtocols)
	}
	// Clients open the tunnel with either.
	mux.HandleFunc("GET /portForward/{namespace}/{pod}", forward)
	mux.HandleFunc("POST /portForward/{namespace}/{pod}", forward)
	return mux
}

// refusal is an answer other than the one that was asked for; the API server hands its words on.
type refusal struct {
	code int
	text string
}

func (r refusal) Error() string { return r.text }

func refusef(code int, format string, args ...any) error {
	return refusal{code, fmt.Sprintf(format, args...)}
}

func refuse(w http.ResponseWriter, err error) {
	if err == nil {
		return
	}
	code := http.StatusInternalServerError
	var refused refusal
	if errors.As(err, &refused) {
		code = refused.code
	}
	http.Error(w, err.Error(), code)
}
