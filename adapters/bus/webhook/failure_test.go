package webhook

import (
	"net"
	"net/http/httptest"
	"testing"
)

// nobody is a URL whose port is taken, but does not listen: that of a connection to a receiver.
func nobody(t *testing.T, receiver *httptest.Server) string {
	t.Helper()
	conn, err := net.Dial("tcp", receiver.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return "http://" + conn.LocalAddr().String() + "/"
}
