package eventnode

import (
	"bytes"
	"fmt"
	"math"
	"regexp"
	"strings"
	"time"

	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/dlclark/regexp2"
)

// filter picks events of $all by their type or their stream's name. It looks at a link itself, not at its target.
type filter struct {
	byStream bool
	prefixes [][]byte
	fast     *regexp.Regexp
	slow     *regexp2.Regexp // for what only an engine like .NET's can do
	window   int             // events looked at a page while catching up
	interval int64           // events looked at between two checkpoints
}

const (
	defaultWindow = 32
	// A backtracking expression can take for ever; this is ample for names.
	matchTimeout = time.Second
)

// newFilter reads the options of a request. A subscription needs an interval of checkpoints, too.
func newFilter(o *api.ReadReq_Options_FilterOptions, subscription bool) (*filter, error) {
	f := &filter{}
	var expression *api.ReadReq_Options_FilterOptions_Expression
	switch by := o.GetFilter().(type) {
	case *api.ReadReq_Options_FilterOptions_StreamIdentifier:
		f.byStream, expression = true, by.StreamIdentifier
	case *api.ReadReq_Options_FilterOptions_EventType:
		expression = by.EventType
	default:
		return nil, invalid("'%s' is not a valid EventStore.Client.Streams.ReadReq+Types+Options+Types+FilterOptions", optionsText(o))
	}
	switch window := o.GetWindow().(type) {
	case *api.ReadReq_Options_FilterOptions_Max:
		if window.Max == 0 {
			return nil, invalid("The maximum search window must be positive.")
		}
		f.window = int(window.Max)
	case *api.ReadReq_Options_FilterOptions_Count:
		f.window = defaultWindow
	default:
		return nil, invalid("'None' is not a valid EventStore.Client.Streams.ReadReq+Types+Options+Types+FilterOptions+WindowOneofCase")
	}
	f.interval = int64(min(uint64(f.window)*uint64(o.GetCheckpointIntervalMultiplier()), math.MaxInt64))
	if f.interval == 0 && subscription {
		return nil, invalid("The checkpoint interval multiplier must be positive.")
	}
	if text := expression.GetRegex(); text != "" {
		return f, f.compile(text)
	}
	for _, p := range expression.GetPrefix() {
		f.prefixes = append(f.prefixes, []byte(p))
	}
	return f, nil
}

// ofNET finds what .NET reads otherwise than Go does, or alone: classes, which it takes from all of Unicode, escapes, options,
// look-around.
var ofNET = regexp.MustCompile(`\\[A-Za-z0-9]|\(\?[^:]|\[\[:`)

func (f *filter) compile(text string) (err error) {
	if !ofNET.MatchString(text) {
		if f.fast, err = regexp.Compile(text); err == nil {
			return nil
		}
		f.fast = nil
	}
	if f.slow, err = regexp2.Compile(text, regexp2.None); err != nil {
		return invalid("The filter's regular expression is not valid: %v", err)
	}
	f.slow.MatchTimeout = matchTimeout
	return nil
}

// matches reports an error only for an expression that takes too long.
func (f *filter) matches(e *event) (bool, error) {
	name := e.typ
	if f.byStream {
		name = e.stream
	}
	switch {
	case f.fast != nil:
		return f.fast.Match(name), nil
	case f.slow != nil:
		ok, err := f.slow.MatchString(string(name))
		if err != nil {
			return false, invalid("The filter's regular expression failed: %v", err)
		}
		return ok, nil
	}
	for _, p := range f.prefixes {
		if bytes.HasPrefix(name, p) {
			return true, nil
		}
	}
	return false, nil
}

// optionsText is how the real server prints filter options that have no expression.
func optionsText(o *api.ReadReq_Options_FilterOptions) string {
	var fields []string
	switch window := o.GetWindow().(type) {
	case *api.ReadReq_Options_FilterOptions_Max:
		fields = append(fields, fmt.Sprintf(`"max": %d`, window.Max))
	case *api.ReadReq_Options_FilterOptions_Count:
		fields = append(fields, `"count": { }`)
	}
	if n := o.GetCheckpointIntervalMultiplier(); n != 0 {
		fields = append(fields, fmt.Sprintf(`"checkpointIntervalMultiplier": %d`, n))
	}
	return "{ " + strings.Join(fields, ", ") + " }"
}
