package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.uber.org/goleak"

	"github.com/tenure-dev/tenure/adapters/bus/settings"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick")) // one for the process, of sarama's
}

// silence is a broker that takes connections and says nothing, until the test ends.
func silence(t *testing.T) (address string, taken <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	connected := make(chan struct{})
	var conns []net.Conn
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if conns = append(conns, conn); len(conns) == 1 {
				close(connected)
			}
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		accepting.Wait()
		for _, conn := range conns {
			_ = conn.Close()
		}
	})
	return l.Addr().String(), connected
}

// sinksTo gives a sink of every kind to a host:port, whose messages may take 100 ms after they are cancelled.
func sinksTo(address string) map[string]Sink {
	n, k, a, p := NewNATSSink(), NewKafkaSink(), NewAMQPSink(), NewPostgresSink()
	n.URL, n.Subject, n.Stream = settings.NewSecret("nats://"+address), "a", "S"
	k.Brokers, k.Topic = []string{address}, "t"
	a.URL, a.Exchange, a.RoutingKey = settings.NewSecret("amqp://u:p@"+address), "e", "k"
	p.URL, p.Topic = settings.NewSecret(fmt.Sprintf("postgres://u:p@%s/d?sslmode=disable", address)), "t"
	n.Timeout, k.Timeout, a.Timeout, p.Timeout = 100*time.Millisecond, 100*time.Millisecond, 100*time.Millisecond, 100*time.Millisecond
	return map[string]Sink{"nats": n, "kafka": k, "amqp": a, "postgres": p}
}

func TestAPublishToASilentBrokerEnds(t *testing.T) {
	for kind := range sinks {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			address, taken := silence(t)
			p, err := sinksTo(address)[kind].Publisher(nil)
			if err != nil {
				t.Fatal(err)
			}
			var failure *Failure
			if err := p.Publish("", message.NewMessage("1", []byte("{}"))); !errors.As(err, &failure) || failure.Permanent() {
				t.Errorf("after its time: %v", err)
			}
			<-taken
			ctx, cancel := context.WithCancel(t.Context())
			m := message.NewMessage("2", []byte("{}"))
			m.SetContext(ctx)
			cancel()
			if err := p.Publish("", m); !errors.As(err, &failure) || failure.Code() != CodeTimeout || !errors.Is(err, context.Canceled) {
				t.Errorf("after its context: %v", err)
			}
			if err := errors.Join(p.Close(), p.Close()); err != nil {
				t.Error(err)
			}
			if err := p.Publish("", message.NewMessage("3", []byte("{}"))); !errors.As(err, &failure) || failure.Code() != CodeClosed {
				t.Errorf("after Close: %v", err)
			}
		})
	}
}
