package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tenure-dev/tenure/adapters/bus/broker"
	"github.com/tenure-dev/tenure/adapters/bus/settings"
	"github.com/tenure-dev/tenure/adapters/eventnode/nodetest"
)

// kafkaBroker is kfake: Kafka's protocol in this process, with its logs on disk, for TLS and a password alone. Topics have
// three partitions.
func kafkaBroker(t testing.TB) testBroker {
	dir, port := t.TempDir(), freePort(t)
	cert, key, trust := nodetest.SelfSigned(t, t.TempDir(), 1)
	certificate, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	authorities, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	var c *kfake.Cluster
	b := testBroker{
		start: func() {
			var err error
			c, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.DataDir(dir),
				kfake.TLS(&tls.Config{Certificates: []tls.Certificate{certificate}}), kfake.EnableSASL(), kfake.Superuser("PLAIN", "tenure", "of-the-test"),
				kfake.BrokerConfigs(map[string]string{"message.max.bytes": "65536"}),
				kfake.SeedTopics(3, "ordered", "restarted", "late", "going-on", "cancelled", "closed", "stranger", "rate", "sunk"))
			if err != nil {
				t.Fatal(err)
			}
			c.ControlKey(int16(kmsg.SASLAuthenticate), func(r kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				request := r.(*kmsg.SASLAuthenticateRequest)
				if !bytes.HasSuffix(request.SASLAuthBytes, []byte(strangersPassword)) {
					return nil, nil, false
				}
				response := request.ResponseKind().(*kmsg.SASLAuthenticateResponse)
				response.ErrorCode = kerr.SaslAuthenticationFailed.Code // as Kafka; kfake itself hangs up
				return response, nil, true
			})
		},
		stop: func() { c.Close() },
	}
	b.start()
	t.Cleanup(func() { b.stop() })
	brokers := c.ListenAddrs()
	sink := func(name, password string) *broker.KafkaSink {
		c := broker.NewKafkaSink()
		c.Brokers, c.Topic, c.MaxBytes, c.TLS, c.CA = brokers, name, 1<<20, true, authorities
		c.User, c.Password = "tenure", settings.NewSecret(password)
		return c
	}
	b.sink = func(name string) broker.Sink { return sink(name, "of-the-test") }
	b.source = func(name string) subscribing { return kafkaSource{t, name, brokers, trust} }
	b.stranger, b.nowhere = sink("stranger", strangersPassword), sink("nowhere", "of-the-test")
	return b
}

// kafkaSource receives by watermill's own subscriber and looks at each record's form.
type kafkaSource struct {
	testing.TB
	topic   string
	brokers []string
	trust   *x509.CertPool
}

func (k kafkaSource) Subscriber(*slog.Logger) (message.Subscriber, error) {
	config := kafka.DefaultSaramaSubscriberConfig()
	config.Version = sarama.V2_1_0_0
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Net.TLS.Enable, config.Net.TLS.Config = true, &tls.Config{RootCAs: k.trust}
	config.Net.SASL.Enable, config.Net.SASL.User, config.Net.SASL.Password = true, "tenure", "of-the-test"
	inner, err := kafka.NewSubscriber(kafka.SubscriberConfig{
		Brokers: k.brokers, Unmarshaler: k, OverwriteSaramaConfig: config, ConsumerGroup: "suite-" + k.topic,
		NackResendSleep: time.Millisecond, ReconnectRetrySleep: 10 * time.Millisecond,
	}, watermill.NopLogger{})
	return &kafkaSubscriber{Subscriber: inner, topic: k.topic}, err
}

// Unmarshal holds the record to what the package's documentation says of it.
func (k kafkaSource) Unmarshal(record *sarama.ConsumerMessage) (*message.Message, error) {
	m, err := kafka.DefaultMarshaler{}.Unmarshal(record)
	if err == nil && (string(record.Key) != m.Metadata.Get("stream") || m.Metadata.Get("ce_id") != m.UUID || m.Metadata.Get("content-type") != "application/cloudevents+json") {
		k.Errorf("record %s: key %s, headers %v", m.UUID, record.Key, m.Metadata)
	}
	return m, err
}

// kafkaSubscriber subscribes when the broker is there: watermill's own wants it there at once.
type kafkaSubscriber struct {
	*kafka.Subscriber
	topic   string
	running sync.WaitGroup
	end     context.CancelFunc
}

func (s *kafkaSubscriber) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	if s.end != nil {
		return s.Subscriber.Subscribe(ctx, s.topic)
	}
	ctx, s.end = context.WithCancel(ctx)
	out := make(chan *message.Message)
	s.running.Go(func() {
		defer close(out)
		var in <-chan *message.Message
		for err := error(errors.New("not yet")); err != nil && ctx.Err() == nil; {
			in, err = s.Subscriber.Subscribe(ctx, s.topic)
		}
		for in != nil {
			select {
			case m, open := <-in:
				if !open {
					return
				}
				select {
				case out <- m:
				case <-ctx.Done():
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return out, nil
}

func (s *kafkaSubscriber) Close() error {
	err := s.Subscriber.Close()
	s.end()
	s.running.Wait()
	return err
}
