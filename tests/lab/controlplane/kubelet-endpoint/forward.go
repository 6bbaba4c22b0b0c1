package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// How long a pod may take to accept a connection.
const accept = 5 * time.Second

// forwarder connects to a pod by its address. A kubelet connects within the pod's network, where the pod is localhost; the
// lab's pods have none of their own, and listen on their address.
type forwarder struct{ ip string }

// PortForward carries what both say until the pod has said all.
func (f forwarder) PortForward(ctx context.Context, _ string, _ string, port int32, client io.ReadWriteCloser) error {
	dialer := net.Dialer{Timeout: accept}
	pod, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(f.ip, strconv.Itoa(int(port))))
	if err != nil {
		return fmt.Errorf("connecting to the pod: %w", err)
	}
	defer pod.Close()
	go func() {
		// An error here breaks the connection, which the other direction sees.
		_, err := io.Copy(pod, client)
		if half, ok := pod.(*net.TCPConn); ok && err == nil {
			half.CloseWrite()
		} else {
			pod.Close()
		}
	}()
	if _, err := io.Copy(client, pod); err != nil {
		return fmt.Errorf("between the pod and its client: %w", err)
	}
	return nil
}
