package webhook

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
)

// raw starts a receiver that reads one request of each connection and then says what it wants. The connection closes after that.
func raw(t testing.TB, say func(io.Writer)) (url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if request, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.Copy(io.Discard, request.Body)
				say(conn)
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-done })
	return "http://" + listener.Addr().String() + "/"
}

// repeat says the same until nobody hears it.
func repeat(w io.Writer, text string) {
	for buffer := []byte(strings.Repeat(text, 1<<10)); ; {
		if _, err := w.Write(buffer); err != nil {
			return
		}
	}
}

// The receiver sees the connection, or the stream of HTTP/2, closed before it has written all.
func TestALongAnswerIsNotRead(t *testing.T) {
	const long = 100 << 20
	a := newAuthority(t)
	for name, c := range map[string]struct {
		two, declared bool
		status        int
	}{
		"of a declared length":                   {false, true, http.StatusOK},
		"in chunks":                              {false, false, http.StatusOK},
		"of an error":                            {false, true, http.StatusInternalServerError},
		"of an error in chunks":                  {false, false, http.StatusInternalServerError},
		"by HTTP/2":                              {true, true, http.StatusOK},
		"by HTTP/2, of which nobody says length": {true, false, http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			written := make(chan int, 1)
			receiver := secure(t, &tls.Config{Certificates: []tls.Certificate{a.certify(t, nil)}}, c.two, func(w http.ResponseWriter, r *http.Request) {
				if r.ProtoMajor == 2 != c.two {
					t.Error(r.Proto)
				}
				if c.declared {
					w.Header().Set("Content-Length", strconv.Itoa(long))
				}
				w.WriteHeader(c.status)
				total, chunk := 0, make([]byte, 64<<10)
				for total < long {
					n, err := w.Write(chunk)
					if total += n; err != nil {
						break
					}
				}
				written <- total
			})
			err := publisher(t, Config{URL: receiver.URL, Allow: local, Timeout: longestTimeout, Roots: a.roots}, nil).Publish("", message.NewMessage("evt-1", nil))
			var r *Refused
			if c.status == http.StatusOK && err != nil || c.status != http.StatusOK && (!errors.As(err, &r) || r.Status() != c.status) {
				t.Error(err)
			}
			if total := <-written; total >= long {
				t.Errorf("all %d bytes are taken", total)
			}
		})
	}
}

func TestTooManyHeadersAreRefused(t *testing.T) {
	for name, say := range map[string]func(io.Writer){
		"more than allowed": func(w io.Writer) {
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: "+strings.Repeat("a", 2*headerBytes)+"\r\n\r\n")
		},
		"without end": func(w io.Writer) {
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\n")
			repeat(w, "A: a\r\n")
		},
		"one line without end": func(w io.Writer) {
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nA: ")
			repeat(w, "a")
		},
		"a status without end":      func(w io.Writer) { repeat(w, "HTTP/1.1 200 OK") },
		"interim ones without end":  func(w io.Writer) { repeat(w, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n") },
		"continuations without end": func(w io.Writer) { repeat(w, "HTTP/1.1 100 Continue\r\n\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			url := raw(t, say)
			var r *Refused
			err := publisher(t, Config{URL: url, Allow: local, Timeout: longestTimeout}, nil).Publish("", message.NewMessage("evt-1", nil))
			if !errors.As(err, &r) || r.Code() != CodeTooLarge || r.Permanent() || r.Status() != 0 {
				t.Error(err)
			}
		})
	}
}

// net/http reads no further than the limit, but far above it calls the same a breach of HTTP/2.
func TestTooManyHeadersOfHTTP2AreRefused(t *testing.T) {
	const each = 256
	a := newAuthority(t)
	for name, c := range map[string]struct {
		headers int
		code    string
	}{
		"below the limit": {headerBytes / each / 2, ""},
		"above it":        {headerBytes / each * 9 / 10, CodeTooLarge}, // beside the names, and 32 bytes that HTTP/2 counts for each
		"far above it":    {headerBytes / each * 8, CodeNoAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			receiver := secure(t, &tls.Config{Certificates: []tls.Certificate{a.certify(t, nil)}}, true, func(w http.ResponseWriter, r *http.Request) {
				if r.ProtoMajor != 2 {
					t.Error(r.Proto)
				}
				for i := range c.headers {
					w.Header().Set("A-"+strconv.Itoa(i), strings.Repeat("a", each))
				}
			})
			err := publisher(t, Config{URL: receiver.URL, Allow: local, Timeout: longestTimeout, Roots: a.roots}, nil).Publish("", message.NewMessage("evt-1", nil))
			var r *Refused
			if c.code == "" && err != nil || c.code != "" && (!errors.As(err, &r) || r.Code() != c.code) {
				t.Error(err)
			}
		})
	}
}

func TestHeadersBelowTheLimitAreTaken(t *testing.T) {
	url := raw(t, func(w io.Writer) {
		_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: "+strings.Repeat("a", headerBytes/2)+"\r\n\r\n")
	})
	if err := publisher(t, Config{URL: url, Allow: local}, nil).Publish("", message.NewMessage("evt-1", nil)); err != nil {
		t.Error(err)
	}
}

// After 101 net/http leaves the connection to the client: a delivery's time would not end what is read of it.
func TestASwitchOfProtocolsHoldsNoDelivery(t *testing.T) {
	url := raw(t, func(w io.Writer) {
		_, _ = io.WriteString(w, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n")
		_, _ = w.(net.Conn).Read(make([]byte, 1)) // until the publisher closes the connection
	})
	var r *Refused
	err := publisher(t, Config{URL: url, Allow: local, Timeout: longestTimeout}, nil).Publish("", message.NewMessage("evt-1", nil))
	if !errors.As(err, &r) || r.Code() != "http_101" {
		t.Error(err)
	}
}
