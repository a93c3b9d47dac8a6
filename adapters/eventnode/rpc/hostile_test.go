package rpc

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// frame is one as bytes, true or not.
func frame(size int, kind, flags byte, stream uint32, payload ...byte) []byte {
	return append(appendHead(nil, size, kind, flags, stream), payload...)
}

// whole is a frame that says its own size.
func whole(kind, flags byte, stream uint32, payload ...byte) []byte {
	return frame(len(payload), kind, flags, stream, payload...)
}

func setting(id uint16, value uint32) []byte {
	return whole(frameSettings, 0, 0, appendSetting(nil, id, value)...)
}

func repeated(n int, b []byte) []byte { return bytes.Repeat(b, n) }

// goodbyes are what ends a connection, said after the preface and settings, and the code the connection ends with. They are
// the fuzz test's seeds as well.
var goodbyes = map[string]struct {
	say  []byte
	want string
}{
	"a frame that is too large":                 {frame(maxFrame+1, frameData, 0, 1), "FRAME_SIZE_ERROR"},
	"data of a call that nobody began":          {whole(frameData, 0, 1, 1), "PROTOCOL_ERROR"},
	"data of no call":                           {whole(frameData, 0, 0, 1), "PROTOCOL_ERROR"},
	"more padding than data":                    {append(call(1, false), whole(frameData, flagPadded, 1, 9, 1)...), "PROTOCOL_ERROR"},
	"padded data without a length":              {append(call(1, false), whole(frameData, flagPadded, 1)...), "FRAME_SIZE_ERROR"},
	"more padding than headers":                 {whole(frameHeaders, flagEndHeaders|flagPadded, 1, 9, 1), "PROTOCOL_ERROR"},
	"a priority that is cut short":              {whole(frameHeaders, flagEndHeaders|flagPriority, 1, 1), "FRAME_SIZE_ERROR"},
	"a priority of no call":                     {whole(framePriority, 0, 0, 0, 0, 0, 0, 0), "PROTOCOL_ERROR"},
	"headers of no call":                        {call(0, true), "PROTOCOL_ERROR"},
	"a call with an even number":                {call(2, true), "PROTOCOL_ERROR"},
	"a call with a smaller number":              {append(call(5, true), call(3, true)...), "PROTOCOL_ERROR"},
	"a second call of the same number":          {append(call(1, true), call(1, true)...), "PROTOCOL_ERROR"},
	"headers in the middle of a request":        {append(call(1, false), call(1, false)...), "PROTOCOL_ERROR"},
	"headers interrupted":                       {append(whole(frameHeaders, 0, 1), whole(framePing, 0, 0, make([]byte, 8)...)...), "PROTOCOL_ERROR"},
	"headers going on elsewhere":                {append(whole(frameHeaders, 0, 1), whole(frameContinuation, 0, 3)...), "PROTOCOL_ERROR"},
	"headers going on that never began":         {whole(frameContinuation, flagEndHeaders, 1), "PROTOCOL_ERROR"},
	"headers without end":                       {append(whole(frameHeaders, 0, 1), repeated(5, whole(frameContinuation, 0, 1, make([]byte, maxFrame)...))...), "ENHANCE_YOUR_CALM"},
	"headers that refer to nothing":             {whole(frameHeaders, flagEndHeaders, 1, 0xff, 0x7f), "COMPRESSION_ERROR"},
	"headers cut short":                         {whole(frameHeaders, flagEndHeaders, 1, 0x00, 0x05, 'a'), "COMPRESSION_ERROR"},
	"a header table larger than allowed":        {whole(frameHeaders, flagEndHeaders, 1, 0x3f, 0xff, 0x7f), "COMPRESSION_ERROR"},
	"a reset of a call that nobody began":       {whole(frameReset, 0, 1, 0, 0, 0, 8), "PROTOCOL_ERROR"},
	"a reset of no call":                        {whole(frameReset, 0, 0, 0, 0, 0, 8), "PROTOCOL_ERROR"},
	"a reset of the wrong size":                 {append(call(1, true), whole(frameReset, 0, 1, 0)...), "FRAME_SIZE_ERROR"},
	"settings of a call":                        {whole(frameSettings, 0, 1), "PROTOCOL_ERROR"},
	"settings of the wrong size":                {whole(frameSettings, 0, 0, 1), "FRAME_SIZE_ERROR"},
	"an acknowledgement with settings":          {whole(frameSettings, flagAck, 0, make([]byte, 6)...), "FRAME_SIZE_ERROR"},
	"push that is neither on nor off":           {setting(settingPush, 2), "PROTOCOL_ERROR"},
	"a window that is too large from the start": {setting(settingWindow, 1<<31), "FLOW_CONTROL_ERROR"},
	"frames that are too small":                 {setting(settingMaxFrame, 1), "PROTOCOL_ERROR"},
	"frames that are too large":                 {setting(settingMaxFrame, 1<<24), "PROTOCOL_ERROR"},
	"a ping of the wrong size":                  {whole(framePing, 0, 0, 1), "FRAME_SIZE_ERROR"},
	"a ping of a call":                          {whole(framePing, 0, 1, make([]byte, 8)...), "PROTOCOL_ERROR"},
	"push":                                      {whole(framePush, flagEndHeaders, 1, 0, 0, 0, 2), "PROTOCOL_ERROR"},
	"a window update of nothing":                {appendWindow(nil, 0, 0), "PROTOCOL_ERROR"},
	"a window update of the wrong size":         {whole(frameWindow, 0, 0, 1), "FRAME_SIZE_ERROR"},
	"a window that overflows":                   {appendWindow(nil, 0, maxWindow), "FLOW_CONTROL_ERROR"},
	"a call's window update of nothing":         {append(call(1, false), appendWindow(nil, 1, 0)...), "PROTOCOL_ERROR"},
	"a call's window that overflows":            {append(call(1, false), appendWindow(nil, 1, maxWindow)...), "FLOW_CONTROL_ERROR"},
	"a window of a call that nobody began":      {appendWindow(nil, 1, 1), "PROTOCOL_ERROR"},
	"windows that overflow by settings":         {append(append(call(1, false), appendWindow(nil, 1, 1<<30)...), setting(settingWindow, maxWindow)...), "FLOW_CONTROL_ERROR"},
}

// call is the headers of a call of the streaming method, without a table.
func call(id uint32, end bool) []byte {
	var b []byte
	for _, f := range [][2]string{{":method", "POST"}, {":path", streamMethod}, {"content-type", "application/grpc"}} {
		b = appendField(b, literal, f[0], f[1])
	}
	flags := byte(flagEndHeaders)
	if end {
		flags |= flagEndStream
	}
	return whole(frameHeaders, flags, id, b...)
}

// patient is a service whose streaming method waits until nobody wants its answer.
func patient() *service {
	return &service{stream: func(st grpc.ServerStream) error {
		<-st.Context().Done()
		return st.Context().Err()
	}}
}

func TestAClientThatBreaksTheRulesLosesItsConnectionAlone(t *testing.T) {
	r := serve(t, Options{}, patient(), nil)
	other := r.client()
	for name, test := range goodbyes {
		t.Run(name, func(t *testing.T) {
			w := r.raw().greet()
			w.say(test.say)
			if got := w.ending(); got != test.want {
				t.Errorf("the connection ends with %s, want %s", got, test.want)
			}
			r.echo(other, name)
		})
	}
	for name, test := range map[string]struct{ say, want string }{
		"HTTP/1":                         {"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "closed"},
		"a preface that is nearly right": {strings.Replace(preface, "SM", "MS", 1), "closed"},
		"a ping before the settings":     {preface + string(whole(framePing, 0, 0, make([]byte, 8)...)), "PROTOCOL_ERROR"},
		"an acknowledgement first":       {preface + string(whole(frameSettings, flagAck, 0)), "PROTOCOL_ERROR"},
	} {
		t.Run(name, func(t *testing.T) {
			w := r.raw()
			w.say([]byte(test.say))
			if got := w.ending(); got != test.want {
				t.Errorf("the connection ends with %s, want %s", got, test.want)
			}
			r.echo(other, name)
		})
	}
}

func TestACallThatBreaksTheRulesIsResetAlone(t *testing.T) {
	bomb := func(w *raw) { // a large field, once into the table and then over and over
		w.text.Reset()
		block := appendField(nil, indexing, "x", strings.Repeat("x", 4000))
		block = append(block, repeated(5000, []byte{indexed | tableNewest})...)
		_ = w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true, EndStream: true})
		w.pack = hpack.NewEncoder(&w.text) // whose table is not the server's any more
		w.pack.SetMaxDynamicTableSize(0)
	}
	header := func(fields ...string) func(*raw) {
		return func(w *raw) {
			_ = w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: w.block(unaryMethod, fields...), EndHeaders: true, EndStream: true})
		}
	}
	request := func(end bool, data ...byte) func(*raw) {
		return func(w *raw) {
			w.begin(1, unaryMethod, false)
			_ = w.WriteData(1, end, data)
		}
	}
	for name, test := range map[string]struct {
		say  func(*raw)
		want string
	}{
		"a header bomb":          {bomb, "grpc-status 8"},
		"another content type":   {header("content-type", "application/grpc-web"), ":status 415"},
		"another method of HTTP": {header(":method", "GET"), ":status 415"},
		"data after the request": {func(w *raw) { w.begin(1, streamMethod, true); _ = w.WriteData(1, true, nil) }, "STREAM_CLOSED"},
		"more data than its window": {func(w *raw) {
			w.begin(1, streamMethod, false)
			w.say(repeated(65, whole(frameData, 0, 1, message(maxFrame-prefixSize)...)))
		}, "FLOW_CONTROL_ERROR"},
		"a message that is compressed": {request(true, 1, 0, 0, 0, 0), "grpc-status 12"},
		"a message said to be 4 GB":    {request(false, 0, 255, 255, 255, 255), "grpc-status 8"},
		"a message that is cut short":  {request(true, 0, 0, 0, 0, 9, 1), "grpc-status 13"},
		"a prefix that is cut short":   {request(true, 0, 0), "grpc-status 13"},
		"a message that is no message": {request(true, 0, 0, 0, 0, 1, 255), "grpc-status 13"},
		"no message at all":            {request(true), "grpc-status 13"},
		"an end by trailers": {func(w *raw) {
			w.begin(1, unaryMethod, false)
			_ = w.WriteData(1, false, message(0))
			w.say(whole(frameHeaders, flagEndHeaders|flagEndStream, 1))
		}, "grpc-status 0"},
		"data with padding": {func(w *raw) {
			w.begin(1, unaryMethod, false)
			_ = w.WriteDataPadded(1, true, message(0), make([]byte, 200))
		}, "grpc-status 0"},
		"a message in single bytes": {func(w *raw) {
			w.begin(1, unaryMethod, false)
			for i, b := range message(3) {
				_ = w.WriteData(1, i == 7, []byte{b})
			}
		}, "grpc-status 13"},
		"a frame of a kind that is unknown": {func(w *raw) { w.say(whole(0x99, 255, 7, 1, 2, 3)); w.begin(1, "/no/such", true) }, "grpc-status 12"},
	} {
		t.Run(name, func(t *testing.T) {
			r := serve(t, Options{MaxCalls: 10}, patient(), nil)
			w := r.raw().greet()
			test.say(w)
			if got := w.outcome(1); got != test.want {
				t.Fatalf("the call ends with %s, want %s", got, test.want)
			}
			w.begin(201, unaryMethod, false)
			_ = w.WriteData(201, true, message(0))
			if got := w.outcome(201); got != "grpc-status 0" {
				t.Fatalf("the next call ends with %s", got)
			}
		})
	}
}

func TestAClientCannotHaveMoreCallsThanAllowed(t *testing.T) {
	r := serve(t, Options{MaxCalls: 3}, patient(), nil)
	w := r.raw().greet()
	for id := uint32(1); id <= 7; id += 2 {
		w.begin(id, streamMethod, false)
	}
	if got := w.outcome(7); got != "REFUSED_STREAM" {
		t.Fatalf("one too many ends with %s", got)
	}
}

func TestRapidResetsStartNoMoreHandlersThanAllowed(t *testing.T) {
	const most = 5
	var running, peak atomic.Int64
	release := make(chan struct{})
	r := serve(t, Options{MaxCalls: most}, &service{stream: func(grpc.ServerStream) error {
		for n := running.Add(1); ; {
			if p := peak.Load(); n <= p || peak.CompareAndSwap(p, n) {
				break
			}
		}
		<-release // handlers may be slow to notice
		running.Add(-1)
		return nil
	}}, nil)
	w := r.raw().greet()
	var refused atomic.Int64
	go func() {
		for id := uint32(1); id < 2000; id += 2 {
			w.say(append(call(id, false), appendReset(nil, id, cancelled)...))
		}
		_ = w.WritePing(false, [8]byte{1})
	}()
	_, err := w.await(func(f http2.Frame) bool {
		if _, ok := f.(*http2.RSTStreamFrame); ok {
			refused.Add(1)
		}
		p, ok := f.(*http2.PingFrame)
		return ok && p.IsAck()
	})
	close(release)
	if err != nil || peak.Load() > most || refused.Load() != 1000-most {
		t.Fatalf("%d handlers at once, %d calls refused, %v", peak.Load(), refused.Load(), err)
	}
}

// piped are clients of a server in one bubble of virtual time. No kernel reads ahead for them, or drops what it has no room
// for.
type piped struct {
	*testing.T
	server *Server
}

func pipes(t *testing.T, o Options) piped {
	s := New(o)
	s.RegisterService(&description, &service{stream: func(st grpc.ServerStream) error {
		for {
			if err := st.SendMsg(wrapperspb.Bytes(make([]byte, 64<<10))); err != nil {
				return err
			}
		}
	}})
	t.Cleanup(s.Stop)
	return piped{t, s}
}

func (p piped) client() *raw {
	near, far := net.Pipe()
	p.server.owned.Go(func() { p.server.serve(near) })
	return &raw{Framer: http2.NewFramer(far, far), r: &rig{t: p.T}, net: far}
}

// open are the connections that are left after a while.
func (p piped) open(after time.Duration) int {
	time.Sleep(after)
	synctest.Wait()
	return p.server.Connections()
}

func TestAClientThatAsksAndDoesNotReadIsCutOff(t *testing.T) {
	for name, more := range map[string]func(i uint32) []byte{
		"pings":    func(uint32) []byte { return repeated(1000, whole(framePing, 0, 0, make([]byte, 8)...)) },
		"settings": func(uint32) []byte { return repeated(1000, whole(frameSettings, 0, 0)) },
		"calls": func(i uint32) []byte {
			var b []byte
			for id := i * 2000; id < (i+1)*2000; id += 2 {
				b = append(b, call(id+1, true)...)
			}
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := pipes(t, Options{outLimit: 256 << 10})
				other, w := p.client().greet(), p.client().greet()
				began, said := time.Now(), 0
				for i := uint32(0); ; i++ {
					n, err := w.net.Write(more(i))
					if said += n; said > 4<<20 {
						t.Fatalf("it can say %d bytes", said)
					}
					if err != nil {
						break
					}
				}
				if took := time.Since(began); took > 2*parting {
					t.Errorf("it could go on for %v", took)
				}
				other.settle()
				if n := p.open(0); n != 1 {
					t.Errorf("%d connections are open", n)
				}
			})
		})
	}
}

func TestHowLongAClientMayReadNothing(t *testing.T) {
	const all = maxWindow
	// listener is a client that is told more than it will ever read.
	listener := func(p piped) *raw {
		w := p.client().greet(http2.Setting{ID: http2.SettingInitialWindowSize, Val: all})
		_ = w.WriteWindowUpdate(0, all-startWindow)
		w.say(call(1, true))
		return w
	}
	t.Run("one that reads nothing is cut off", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := pipes(t, Options{})
			listener(p)
			if before, after := p.open(reading-1), p.open(1); before != 1 || after != 0 {
				t.Fatalf("%d, then %d connections are open", before, after)
			}
		})
	})
	t.Run("one that reads slowly is not", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := pipes(t, Options{})
			w := listener(p)
			for range 50 {
				if n := p.open(reading - 1); n != 1 {
					t.Fatal("it is cut off")
				}
				if _, err := io.ReadFull(w.net, make([]byte, outWanted)); err != nil {
					t.Fatal(err)
				}
			}
		})
	})
	t.Run("nor one that has nothing to read", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := pipes(t, Options{})
			w := p.client().greet()
			w.settle()
			if n := p.open(100 * reading); n != 1 {
				t.Fatal("it is cut off")
			}
			w.settle()
		})
	})
}

func TestAClientMayShrinkItsWindowBelowNothing(t *testing.T) {
	filled := make(chan struct{}, 1)
	r := serve(t, Options{}, &service{stream: func(st grpc.ServerStream) error {
		queue, err := SenderOf(st.Context())
		if err != nil {
			return err
		}
		filled <- struct{}{}
		return errors.Join(queue.Queue(make([]byte, 3000)), queue.Flush())
	}}, nil)
	w := r.raw().greet(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000})
	w.begin(1, streamMethod, false)
	total := 0
	data := func(want int) {
		t.Helper()
		for total < want {
			f, err := w.await(func(f http2.Frame) bool { return f.Header().Type == http2.FrameData })
			if err != nil {
				t.Fatal(err)
			}
			total += int(f.Header().Length)
		}
		if total != want {
			t.Fatalf("%d bytes came, %d were allowed", total, want)
		}
	}
	data(1000)
	_ = w.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}) // minus 1000 now
	_ = w.WriteWindowUpdate(1, 1000)
	w.settle() // nothing may come
	_ = w.WriteWindowUpdate(1, 500)
	data(1500)
	_ = w.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100})
	data(1600)
	_ = w.WriteWindowUpdate(1, 5000)
	data(3000 + prefixSize)
	if got := w.outcome(1); got != "grpc-status 0" {
		t.Fatal(got)
	}
}

func TestAClientMayWantNoHeaderTable(t *testing.T) {
	r := serve(t, Options{}, nil, nil)
	w := r.raw()
	w.ReadMetaHeaders = nil
	w.greet()
	blocks := func(id uint32) (all [][]byte) {
		t.Helper()
		w.begin(id, unaryMethod, false)
		_ = w.WriteData(id, true, message(0))
		for {
			f, err := w.await(func(f http2.Frame) bool { return f.Header().Type == http2.FrameHeaders })
			if err != nil {
				t.Fatal(err)
			}
			h := f.(*http2.HeadersFrame)
			if all = append(all, bytes.Clone(h.HeaderBlockFragment())); h.StreamEnded() {
				return all
			}
		}
	}
	decoder := hpack.NewDecoder(4096, nil)
	read := func(blocks [][]byte) (text string) {
		t.Helper()
		for _, b := range blocks {
			fields, err := decoder.DecodeFull(b)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range fields {
				text += f.Name + "=" + f.Value + " "
			}
		}
		return text
	}
	const want = ":status=200 content-type=application/grpc grpc-status=0 "
	for _, id := range []uint32{1, 3, 5} {
		if got := read(blocks(id)); got != want {
			t.Fatalf("call %d has headers %s", id, got)
		}
	}
	_ = w.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
	for _, id := range []uint32{7, 9} {
		all := blocks(id)
		if told := all[0][0] == resize; told != (id == 7) {
			t.Errorf("call %d: the table's new size is said: %v", id, told)
		}
		decoder.SetMaxDynamicTableSize(0)
		if got := read(all); got != want {
			t.Fatalf("call %d without a table has headers %s", id, got)
		}
	}
}
