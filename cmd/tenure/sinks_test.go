package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	failingSink = `"name":"billing","target":"webhook","phase":"active","running":true,"lagEvents":12,"lagSeconds":90.4,"inFlight":2,"heldStreams":0,"parkedCount":1,
		"lastSuccess":"T1","lastFailureCode":"timeout","failingSince":"T2","oldest":{"stream":"tenant-ten_1","revision":4,"eventId":"e4"},
		"openRedeliveries":1,"revision":3`
	// elsewhereSink is one that another process sends for.
	elsewhereSink = `"name":"crm","target":"kafka","phase":"paused","running":false,"lagEvents":null,"lagSeconds":null,"inFlight":null,"heldStreams":null,"parkedCount":0,
		"lastSuccess":null,"lastFailureCode":null,"failingSince":null,"oldest":null,"openRedeliveries":0,"revision":0`
	sinkLists = `"parked":{"nodes":[{"stream":"tenant-ten_2","revision":7,"eventId":"e7","attempts":12,"code":"status-500"}],"pageInfo":{"hasNextPage":false}},
		"deliveries":{"nodes":[{"eventId":"e4","type":"tenant.requested","stream":"tenant-ten_1","revision":4,"attempt":2,"startedAt":"T3","tookMs":10001,
		"outcome":"failed","status":null,"code":"timeout"}]}`
	sinkChanged = `{"data":{"change":{"object":{` + elsewhereSink + `},"position":"p1","repeated":false,"userErrors":[]}}}`
)

func TestSinksAreListed(t *testing.T) {
	api := newFakeAPI(t, http.StatusOK, `{"data":{"page":{"nodes":[{`+failingSink+`},{`+elsewhereSink+`}],"pageInfo":{"hasNextPage":false,"endCursor":"c"}}}}`)
	exit, stdout, stderr := call(t, withToken, "sinks", "list", "--api", api.URL)
	const want = `NAME     TARGET   PHASE   LAG  BEHIND  PARKED  LAST-SUCCESS  FAILING
billing  webhook  active  12   1m30s   1       T1            timeout since T2
crm      kafka    paused  -    -       0       -             -
`
	if d := cmp.Diff(want, stdout); d != "" || exit != exitOK || stderr != "" {
		t.Errorf("exit code %d, standard error %q, output (-want +got)\n%s", exit, stderr, d)
	}
	if strings.Contains(api.asked[0].Query, "deliveries(") {
		t.Error("a list asks for deliveries")
	}
}

func TestOneSinkIsShownWithWhatIsParkedAndItsDeliveries(t *testing.T) {
	for name, c := range map[string]struct {
		object string
		want   string
	}{
		"all": {failingSink + "," + sinkLists, `NAME          billing
TARGET        webhook
PHASE         active
LAG           12
BEHIND        1m30s
PARKED        1
LAST-SUCCESS  T1
FAILING       timeout since T2
OLDEST        tenant-ten_1/4
IN-FLIGHT     2
HELD-STREAMS  0
REDELIVERIES  1
RUNNING       true
REVISION      3

PARKED          EVENT  ATTEMPTS  CODE
tenant-ten_2/7  e7     12        status-500

DELIVERY  OF              TYPE              ATTEMPT  TOOK-MS  OUTCOME  STATUS  CODE
T3        tenant-ten_1/4  tenant.requested  2        10001    failed   -       timeout
`},
		"nothing parked, nothing delivered": {elsewhereSink + `,"parked":{"nodes":[]},"deliveries":{"nodes":[]}`, `NAME          crm
TARGET        kafka
PHASE         paused
LAG           -
BEHIND        -
PARKED        0
LAST-SUCCESS  -
FAILING       -
OLDEST        -
IN-FLIGHT     -
HELD-STREAMS  -
REDELIVERIES  0
RUNNING       false
REVISION      0
`},
	} {
		t.Run(name, func(t *testing.T) {
			api := newFakeAPI(t, http.StatusOK, `{"data":{"object":{`+c.object+`}}}`)
			exit, stdout, stderr := call(t, withToken, "sinks", "show", "billing", "--api", api.URL)
			if d := cmp.Diff(c.want, stdout); d != "" || exit != exitOK {
				t.Errorf("exit code %d, standard error %q, output (-want +got)\n%s", exit, stderr, d)
			}
			if api.asked[0].Variables["key"] != "billing" {
				t.Errorf("asked %v", api.asked[0])
			}
		})
	}
}

func TestASinkIsSteered(t *testing.T) {
	place := func(stream string, revision float64) map[string]any {
		return map[string]any{"stream": stream, "revision": revision}
	}
	for name, c := range map[string]struct {
		args     []string
		mutation string
		want     map[string]any // of the input, beside the sink's name and the key
	}{
		"pause":        {[]string{"pause", "billing"}, "pauseSink", map[string]any{}},
		"pause, why":   {[]string{"pause", "billing", "--reason", "a new release"}, "pauseSink", map[string]any{"reason": "a new release"}},
		"resume":       {[]string{"resume", "billing", "--reason", "done"}, "resumeSink", map[string]any{"reason": "done"}},
		"one event":    {[]string{"redeliver", "billing", "--event", "tenant-ten_1/4"}, "redeliverSink", map[string]any{"event": place("tenant-ten_1", 4)}},
		"odd stream":   {[]string{"redeliver", "billing", "--event", "a/b/0"}, "redeliverSink", map[string]any{"event": place("a/b", 0)}},
		"all parked":   {[]string{"redeliver", "billing", "--parked"}, "redeliverSink", map[string]any{"allParked": true}},
		"part of log":  {[]string{"redeliver", "billing", "--from", "a-1/2", "--to", "b-1/0"}, "redeliverSink", map[string]any{"range": map[string]any{"from": place("a-1", 2), "to": place("b-1", 0)}}},
		"with own key": {[]string{"redeliver", "billing", "--parked", "--key", "mine"}, "redeliverSink", map[string]any{"allParked": true, "idempotencyKey": "mine"}},
	} {
		t.Run(name, func(t *testing.T) {
			api := newFakeAPI(t, http.StatusOK, sinkChanged)
			exit, stdout, stderr := call(t, withToken, append(append([]string{"sinks"}, c.args...), "--api", api.URL)...)
			if exit != exitOK || stderr != "" || !strings.Contains(stdout, "PHASE         paused\n") {
				t.Errorf("exit code %d, standard error %q, output\n%s", exit, stderr, stdout)
			}
			if !strings.Contains(api.asked[0].Query, c.mutation+"(input: $input)") || strings.Contains(api.asked[0].Query, "deliveries(") {
				t.Errorf("asked %s", api.asked[0].Query)
			}
			input := api.asked[0].Variables["input"].(map[string]any)
			if _, own := c.want["idempotencyKey"]; !own {
				if key, _ := input["idempotencyKey"].(string); len(key) < 20 {
					t.Errorf("the key is %q", key)
				}
				delete(input, "idempotencyKey")
			}
			c.want["sink"] = "billing"
			if d := cmp.Diff(c.want, input); d != "" {
				t.Errorf("the input is another (-want +got):\n%s", d)
			}
		})
	}
	api := newFakeAPI(t, http.StatusOK, sinkChanged)
	if exit, stdout, _ := call(t, withToken, "sinks", "pause", "crm", "-o", "json", "--api", api.URL); exit != exitOK || !strings.Contains(stdout, `"position": "p1"`) ||
		!strings.Contains(stdout, `"phase": "paused"`) {
		t.Errorf("exit code %d, output\n%s", exit, stdout)
	}
}

func TestASinksCommandLineIsRefusedByItsFlag(t *testing.T) {
	api := newFakeAPI(t, http.StatusOK, sinkChanged)
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"nothing to redeliver": {nil, "--event, --from with --to, or --parked must be given"},
		"event and parked":     {[]string{"--event", "s/1", "--parked"}, "--parked cannot be given with --event, --from or --to"},
		"event and from":       {[]string{"--event", "s/1", "--from", "s/1"}, "--event cannot be given with --from or --to"},
		"to and parked":        {[]string{"--to", "s/1", "--parked"}, "--parked cannot be given with --event, --from or --to"},
		"from alone":           {[]string{"--from", "s/1"}, "--from needs --to"},
		"to alone":             {[]string{"--to", "s/1"}, "--to needs --from"},
		"no revision":          {[]string{"--event", "tenant-ten_1"}, "--event must be STREAM/REVISION, such as tenant-ten_1/3"},
		"no stream":            {[]string{"--event", "/1"}, "--event must be STREAM/REVISION, such as tenant-ten_1/3"},
		"a negative revision":  {[]string{"--from", "s/-1", "--to", "s/1"}, "--from must be STREAM/REVISION, such as tenant-ten_1/3"},
		"a revision in words":  {[]string{"--from", "s/1", "--to", "s/end"}, "--to must be STREAM/REVISION, such as tenant-ten_1/3"},
		"an odd format":        {[]string{"--parked", "-o", "csv"}, "--output must be one of table, json, yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			exit, stdout, stderr := call(t, withToken, append([]string{"sinks", "redeliver", "billing", "--api", api.URL}, c.args...)...)
			if exit != exitUsage || stdout != "" || stderr != "tenure: invalid: "+c.want+"\n" {
				t.Errorf("exit code %d, output %q, standard error %q", exit, stdout, stderr)
			}
		})
	}
	if len(api.asked) > 0 {
		t.Errorf("the API was asked %v", api.asked)
	}
}

func TestASinkThatIsNotConfiguredIsNotFound(t *testing.T) {
	for command, answer := range map[string]string{
		"show":  `{"data":{"object":null}}`,
		"pause": `{"data":{"change":{"object":null,"position":null,"repeated":false,"userErrors":[{"message":"there is no sink other","code":"NOT_FOUND"}]}}}`,
	} {
		api := newFakeAPI(t, http.StatusOK, answer)
		exit, stdout, stderr := call(t, withToken, "sinks", command, "other", "--api", api.URL)
		if exit != exitNotFound || stdout != "" || stderr != "tenure: not_found: there is no sink other\n" {
			t.Errorf("%s: exit code %d, output %q, standard error %q", command, exit, stdout, stderr)
		}
	}
}
