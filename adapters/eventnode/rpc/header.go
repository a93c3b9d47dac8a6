package rpc

import (
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// request is the headers of a call. Strings that a client repeats are shared, so a call costs hardly any memory.
type request struct {
	method   string // HTTP's
	path     string
	content  string
	encoding string
	timeout  string
	fields   []hpack.HeaderField // all that is not HTTP's own
	size     int
	large    bool // too large; what came after that is not in fields
}

func (r *request) reset() {
	clear(r.fields)
	*r = request{fields: r.fields[:0]}
}

// add takes one field. Fields of a block that is too large are dropped, for the table must be kept up to date all the same.
func (r *request) add(f hpack.HeaderField) {
	if r.size += int(f.Size()); r.size > maxHeaderBlock {
		r.large = true
		return
	}
	switch f.Name {
	case ":method":
		r.method = f.Value
	case ":path":
		r.path = f.Value
	case "content-type":
		r.content = f.Value
		r.fields = append(r.fields, f)
	case "grpc-timeout":
		r.timeout = f.Value
	case "grpc-encoding":
		r.encoding = f.Value
	case ":scheme", "te", "connection":
	default:
		if f.Name == ":authority" || !strings.HasPrefix(f.Name, ":") && !strings.HasPrefix(f.Name, "grpc-") {
			r.fields = append(r.fields, f)
		}
	}
}

// metadata is what handlers see of the headers.
func (r *request) metadata() metadata.MD {
	md := make(metadata.MD, len(r.fields))
	for _, f := range r.fields {
		value := f.Value
		if strings.HasSuffix(f.Name, "-bin") {
			raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
			if err != nil {
				continue
			}
			value = string(raw)
		}
		md[f.Name] = append(md[f.Name], value)
	}
	return md
}

// isGRPC tells gRPC's content types from others, such as that of gRPC-Web.
func isGRPC(content string) bool {
	rest, found := strings.CutPrefix(content, fieldContent[1])
	return found && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// duration is the call's time limit: up to eight digits and a unit.
func (r *request) duration() (time.Duration, bool) {
	if len(r.timeout) < 2 || len(r.timeout) > 9 {
		return 0, false
	}
	n, err := strconv.ParseUint(r.timeout[:len(r.timeout)-1], 10, 63)
	var unit time.Duration
	switch r.timeout[len(r.timeout)-1] {
	case 'H':
		unit = time.Hour
	case 'M':
		unit = time.Minute
	case 'S':
		unit = time.Second
	case 'm':
		unit = time.Millisecond
	case 'u':
		unit = time.Microsecond
	case 'n':
		unit = time.Nanosecond
	}
	if err != nil || unit == 0 {
		return 0, false
	}
	const longest = 100 * 365 * 24 * time.Hour
	return time.Duration(min(n, uint64(longest/unit))) * unit, true
}

// The answer to nearly every call has the same headers. They go into the client's table once and are one byte each from
// then on; nothing else is ever put there, so their places are known. A client that wants no table gets them spelled out.
const (
	indexed  = 0x80
	indexing = 0x40
	literal  = 0x00
	resize   = 0x20

	status200   = 8  // of HPACK's own table
	tableNewest = 62 // of the client's
)

var (
	fieldContent = [2]string{"content-type", "application/grpc"}
	fieldZero    = [2]string{"grpc-status", "0"}
)

// headerWriter writes the header blocks of a connection, in the order in which they are sent.
type headerWriter struct {
	content bool // the client has the content type in its table
	zero    bool // and after it the status of success
	plain   bool // it wants no table
	tell    bool // and has to be told that we know
}

// noTable obeys a client that wants a smaller table than ours was made for.
func (w *headerWriter) noTable() { w.plain, w.tell = true, true }

// told begins a block: the first one after the client's wish has to say that it is obeyed.
func (w *headerWriter) told(b []byte) []byte {
	if w.tell {
		b, w.tell = append(b, resize), false
	}
	return b
}

// begin writes what every answer begins with.
func (w *headerWriter) begin(b []byte) []byte {
	b = append(w.told(b), indexed|status200)
	switch {
	case w.plain:
		return appendField(b, literal, fieldContent[0], fieldContent[1])
	case !w.content:
		w.content = true
		return appendField(b, indexing, fieldContent[0], fieldContent[1])
	case w.zero:
		return append(b, indexed|tableNewest+1)
	}
	return append(b, indexed|tableNewest)
}

// success writes the trailers of a call that went well.
func (w *headerWriter) success(b []byte) []byte {
	b = w.told(b)
	switch {
	case w.plain:
		return appendField(b, literal, fieldZero[0], fieldZero[1])
	case !w.zero:
		w.zero = true
		return appendField(b, indexing, fieldZero[0], fieldZero[1])
	}
	return append(b, indexed|tableNewest)
}

// end writes the trailers of a call.
func (w *headerWriter) end(b []byte, st *status.Status, trailer metadata.MD) []byte {
	if st.Code() == codes.OK {
		b = w.success(b)
	} else {
		b = appendField(w.told(b), literal, "grpc-status", strconv.Itoa(int(st.Code())))
		b = appendField(b, literal, "grpc-message", percented(st.Message()))
	}
	return appendMetadata(b, trailer)
}

func appendMetadata(b []byte, md metadata.MD) []byte {
	for key, values := range md {
		for _, value := range values {
			if strings.HasSuffix(key, "-bin") {
				value = base64.RawStdEncoding.EncodeToString([]byte(value))
			}
			b = appendField(b, literal, strings.ToLower(key), value)
		}
	}
	return b
}

// appendField writes a field in full, with a name that is lower case.
func appendField(b []byte, form byte, name, value string) []byte {
	b = append(b, form)
	return appendString(appendString(b, name), value)
}

func appendString(b []byte, s string) []byte {
	const most = 127
	n := len(s)
	if n < most {
		b = append(b, byte(n))
	} else {
		b = append(b, most)
		for n -= most; n >= 128; n >>= 7 {
			b = append(b, byte(n)|128)
		}
		b = append(b, byte(n))
	}
	return append(b, s...)
}

// percented is a status message as trailers carry it.
func percented(s string) string {
	const digits = "0123456789ABCDEF"
	plain := func(c byte) bool { return c >= ' ' && c <= '~' && c != '%' }
	for i := range len(s) {
		if plain(s[i]) {
			continue
		}
		b := append(make([]byte, 0, len(s)+16), s[:i]...)
		for ; i < len(s); i++ {
			if c := s[i]; plain(c) {
				b = append(b, c)
			} else {
				b = append(b, '%', digits[c>>4], digits[c&15])
			}
		}
		return string(b)
	}
	return s
}
