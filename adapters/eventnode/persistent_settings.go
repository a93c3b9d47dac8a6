package eventnode

import (
	"fmt"
	"math"
	"strconv"
	"time"

	ps "github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/protobuf/proto"
)

// source is what a group is subscribed to, and its name.
type source struct {
	stream string // $all for all streams
	group  string
}

func (s source) all() bool { return s.stream == allStream }

// key is the subscription's id. Streams of the group's own are named after it.
func (s source) key() string { return s.stream + "::" + s.group }

func (s source) checkpoints() string { return "$persistentsubscription-" + s.key() + "-checkpoint" }

func (s source) parked() string { return "$persistentsubscription-" + s.key() + "-parked" }

// newStreamSource reads the names in a request that makes, changes or ends a group on a stream. Those on $all have requests
// of their own.
func newStreamSource(stream *shared.StreamIdentifier, group string) (source, error) {
	s, err := newSource(false, stream, group)
	if err == nil {
		err = s.checkStream()
	}
	return s, err
}

// checkStream refuses $all where it is given as a stream's name.
func (s source) checkStream() error {
	if s.all() {
		return invalid("$all is not the name of a stream.")
	}
	return nil
}

// newSource reads the names in a request.
func newSource(all bool, stream *shared.StreamIdentifier, group string) (source, error) {
	s := source{allStream, group}
	if !all {
		var err error
		if s.stream, err = streamName(stream.GetStreamName()); err != nil {
			return s, err
		}
	}
	if len(metastreamOf(s.checkpoints())) > maxStreamName {
		return s, invalid("The names of the stream and the group are too long: at most %d bytes with what is added to them.", maxStreamName)
	}
	return s, nil
}

// start is where a group begins that has no checkpoint yet.
type start struct {
	end     bool
	value   int64 // the first revision or position that is wanted
	prepare int64 // of a position, as it was given
}

// settings are what a client may choose for a group. Numbers that make no sense are taken, as a real server takes them.
type settings struct {
	source
	start          start
	filter         *filter
	filterOptions  *api.ReadReq_Options_FilterOptions // what filter was made of
	resolveLinks   bool
	statistics     bool
	messageTimeout time.Duration // 0 ends at the next tick
	maxRetries     int
	liveBuffer     int
	history        int // events held for consumers to come for
	batch          int // events read from the disk at a time
	afterTime      time.Duration
	minCheckpoint  int
	maxCheckpoint  int
	maxConsumers   int // 0 for no limit
	strategy       string
}

// never is how long the time is until a checkpoint that is not written by time.
const never = math.MaxInt32 * time.Millisecond

// wireSettings is what the settings of a create and those of an update have in common.
type wireSettings interface {
	GetResolveLinks() bool
	GetExtraStatistics() bool
	GetMaxRetryCount() int32
	GetMinCheckpointCount() int32
	GetMaxCheckpointCount() int32
	GetMaxSubscriberCount() int32
	GetLiveBufferSize() int32
	GetReadBatchSize() int32
	GetHistoryBufferSize() int32
	GetMessageTimeoutTicks() int64
	GetMessageTimeoutMs() int32
	GetCheckpointAfterTicks() int64
	GetCheckpointAfterMs() int32
}

func (s *settings) read(w wireSettings, strategy string) {
	s.resolveLinks, s.statistics = w.GetResolveLinks(), w.GetExtraStatistics()
	s.maxRetries, s.maxConsumers = int(w.GetMaxRetryCount()), int(w.GetMaxSubscriberCount())
	s.minCheckpoint, s.maxCheckpoint = int(w.GetMinCheckpointCount()), int(w.GetMaxCheckpointCount())
	s.liveBuffer, s.history, s.batch = int(w.GetLiveBufferSize()), int(w.GetHistoryBufferSize()), int(w.GetReadBatchSize())
	s.strategy = strategy
	s.messageTimeout = milliseconds(w.GetMessageTimeoutMs(), w.GetMessageTimeoutTicks())
	if s.afterTime = milliseconds(w.GetCheckpointAfterMs(), w.GetCheckpointAfterTicks()); s.afterTime == 0 {
		s.afterTime = never
	}
}

// check refuses what no group can be made of, whether there is one of that name or not.
func (s *settings) check(watermark uint64) error {
	if _, known := newStrategy(s.strategy); !known {
		return groupFailed(s.source, "Consumer strategy "+s.strategy+" does not exist.")
	}
	if s.all() && s.start.value > int64(watermark) {
		return groupFailed(s.source, "Invalid Start From position: commit position must be less than or equal to the last commit position in the transaction file.")
	}
	return nil
}

// checkPages is asked once the group's name is known to be free, or to be taken by the one that is changed.
func (s *settings) checkPages() error {
	if s.batch >= s.history {
		return groupFailed(s.source, "Specified argument was out of the range of valid values. (Parameter 'ReadBatchSize may not be greater than or equal to BufferSize')")
	}
	return nil
}

// milliseconds adds two ways to say a time, of which at most one is used. Ticks are 100 ns.
func milliseconds(ms int32, ticks int64) time.Duration {
	ticks = min(max(ticks, math.MinInt32*10_000), math.MaxInt32*10_000)
	return (time.Duration(ms)*time.Millisecond + time.Duration(ticks)*100).Truncate(time.Millisecond)
}

// fromRevision is a start at a revision, the first wanted.
func fromRevision(revision uint64) (start, error) {
	switch {
	case revision == math.MaxUint64:
		return start{end: true}, nil
	case revision > math.MaxInt64:
		return start{}, invalid("A revision is at most %d.", int64(math.MaxInt64))
	}
	return start{value: int64(revision)}, nil
}

func (s *settings) startAtPosition(commit, prepare uint64) error {
	switch {
	case prepare > commit:
		return invalid("The commit position must be greater than or equal to the prepare position.")
	case commit == math.MaxUint64: // stands for the end, as in a read
		s.start.end = true
		return nil
	case commit > math.MaxInt64:
		return invalid("A position is at most %d.", int64(math.MaxInt64))
	}
	s.start = start{value: int64(commit), prepare: int64(prepare)}
	return nil
}

func unsetStart(req, options, option string) error {
	return invalid("'None' is not a valid EventStore.Client.PersistentSubscriptions.%s+Types+%s+%sOneofCase", req, options, option)
}

// setFilter makes a filter of options that have the form they have in a read. Windows and intervals mean nothing to a
// group, whatever the client says of them. Without options there is no filter.
func (s *settings) setFilter(o *api.ReadReq_Options_FilterOptions) (err error) {
	if s.filterOptions = o; o != nil {
		o.Window = &api.ReadReq_Options_FilterOptions_Count{Count: empty}
		s.filter, err = newFilter(o, false)
	}
	return err
}

// readFilter takes the options over from the other service's message, which has the same fields.
func (s *settings) readFilter(o *ps.CreateReq_AllOptions_FilterOptions) error {
	if o == nil {
		return nil
	}
	if o.GetFilter() == nil {
		return invalid("'None' is not a valid EventStore.Client.PersistentSubscriptions.CreateReq+Types+AllOptions+Types+FilterOptions+FilterOneofCase")
	}
	b, err := proto.Marshal(o)
	if err != nil {
		return err
	}
	same := &api.ReadReq_Options_FilterOptions{}
	if err := proto.Unmarshal(b, same); err != nil {
		return invalid("The filter is damaged: %v", err)
	}
	return s.setFilter(same)
}

// place is a revision or a position of a group's source as text; below 0 there is none.
func (s source) place(at int64) string {
	switch {
	case at < 0:
		return ""
	case s.all():
		return fmt.Sprintf("C:%d/P:%d", at, at)
	}
	return strconv.FormatInt(at, 10)
}

// readPlace is the reverse of place.
func (s source) readPlace(text string) (int64, error) {
	if !s.all() {
		return strconv.ParseInt(text, 10, 64)
	}
	var commit, prepare int64
	_, err := fmt.Sscanf(text, "C:%d/P:%d", &commit, &prepare)
	return commit, err
}

// startText is where a group starts, in the words of the protocol.
func (s *settings) startText() string {
	switch {
	case s.start.end && s.all():
		return "C:-1/P:-1"
	case s.start.end:
		return "-1"
	case s.all():
		return fmt.Sprintf("C:%d/P:%d", s.start.value, s.start.prepare)
	}
	return strconv.FormatInt(s.start.value, 10)
}

func (s *settings) readStart(text string) error {
	var err error
	if s.all() {
		_, err = fmt.Sscanf(text, "C:%d/P:%d", &s.start.value, &s.start.prepare)
	} else {
		s.start.value, err = strconv.ParseInt(text, 10, 64)
	}
	if s.start.value < 0 {
		s.start = start{end: true}
	}
	return err
}
