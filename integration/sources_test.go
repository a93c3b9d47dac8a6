package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tenure-dev/tenure/adapters/bus/broker"
	"github.com/tenure-dev/tenure/adapters/bus/settings"
)

// Another system registers orgs by messages, and the control plane is killed in the middle: every message is answered, each org
// is there once, what may not be asked is refused, and what cannot be understood is set aside.
func TestCommandsComeFromABrokerThoughTheControlPlaneIsKilled(t *testing.T) {
	t.Parallel()
	const orgs = 12
	b := natsBroker(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "tenure.yaml")
	must(t, os.WriteFile(config, fmt.Appendf(nil, `sources:
  crm:
    actor: svc-crm
    commands: [org.register]
    replies: answers.crm
    parked: parked.crm
    backoff: {first: 1ms, most: 50ms}
    nats: {url: %q, stream: orders, durable: tenure, redelivery: 10ms, ackWait: 1s}
`, b.url), 0o600))
	orders := openPublisher(t, b.sink("orders"))
	sent := 0
	order := func(text string) {
		t.Helper()
		sent++
		m := message.NewMessage(fmt.Sprint("message-", sent), []byte(text))
		m.Metadata = message.Metadata{"type": "new"}
		m.SetContext(t.Context())
		must(t, orders.Publish("", m))
	}
	register := func(n int) {
		t.Helper()
		order(fmt.Sprintf(`{"specversion":"1.0","id":"order-%d","source":"/crm","type":"org.register","data":{"name":"Org %d"}}`, n, n))
	}
	dev := startDev(t, dir, config)
	register(0)
	answers := openSubscriber(t, natsStream(b, "answers_crm"))
	accepted := map[string]string{} // the org's id, by the request's
	answered := func(n int) {
		t.Helper()
		for len(accepted) < n {
			m := receive(t, answers)
			var a struct {
				Type, CorrelationID string
				Data                struct{ ID string }
			}
			must(t, json.Unmarshal(m.Payload, &a))
			if before, again := accepted[a.CorrelationID]; a.Type != "org.register.accepted" || again && before != a.Data.ID {
				t.Fatalf("the answer is %s, before it was %s", m.Payload, before)
			}
			accepted[a.CorrelationID] = a.Data.ID
			m.Ack()
		}
	}
	for n := 1; n < orgs/2; n++ {
		register(n)
	}
	answered(orgs / 4)
	dev.kill()
	for n := range orgs { // half of them again
		register(n)
	}
	dev = startDev(t, dir, config)
	answered(orgs)
	order(`{"specversion":"1.0","id":"bad-1","source":"/crm","type":"tenant.suspend","data":{}}`)
	for m := receive(t, answers); ; m = receive(t, answers) {
		var a struct {
			Type string
			Data struct{ Code string }
		}
		must(t, json.Unmarshal(m.Payload, &a))
		if m.Ack(); a.Type == "tenant.suspend.refused" && a.Data.Code == "forbidden" {
			break
		}
	}
	order(`{"specversion":"1.0"`)
	aside := receive(t, openSubscriber(t, natsStream(b, "parked_crm")))
	if aside.Ack(); aside.Metadata.Get("parkedCode") != "malformed" || string(aside.Payload) != `{"specversion":"1.0"` {
		t.Errorf("set aside is %s, %v", aside.Payload, aside.Metadata)
	}
	ids := map[string]bool{}
	for _, id := range accepted {
		ids[id] = true
	}
	all, _ := field(dev.query(t, "{ orgs(first: 100) { nodes { id } } }", nil), "orgs", "nodes").([]any)
	if len(ids) != orgs || len(all) != orgs {
		t.Errorf("%d orgs were accepted, %d are there, of %d", len(ids), len(all), orgs)
	}
	dev.stop()
}

// natsStream is a source of everything in a stream.
func natsStream(b testBroker, name string) *broker.NATSSource {
	s := broker.NewNATSSource()
	s.URL, s.Stream, s.Durable, s.Redelivery = settings.NewSecret(b.url), name, "suite", time.Millisecond
	return s
}
