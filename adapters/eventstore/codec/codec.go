// Package codec decodes the event store's answers to reads by hand. Everything else goes to gRPC's standard codec. Only
// adapters/eventstore registers it.
package codec

import (
	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc/encoding"
	standard "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// Codec is gRPC's codec for protobuf, but for read answers that carry an event: those take 4 allocations, not 20.
type Codec struct {
	encoding.CodecV2 // the standard one
}

// Register makes a Codec gRPC's "proto" codec, for the whole process. Messages of other users of gRPC go through the standard
// codec as before, and no read answer decodes to anything else than it would there. gRPC keeps its codecs in a map without a
// lock: Register is for the time of initialisation alone, before any call is made.
func Register() { encoding.RegisterCodecV2(Codec{encoding.GetCodecV2(standard.Name)}) }

// Unmarshal fills v. A read answer owns its memory: it aliases none of data's buffers, which gRPC uses again.
func (c Codec) Unmarshal(data mem.BufferSlice, v any) error {
	if answer, ok := v.(*api.ReadResp); ok && decode(data, answer) {
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

func decode(data mem.BufferSlice, into *api.ReadResp) bool {
	if len(data) == 0 || data[0].Len() == 0 || data[0].ReadOnlyData()[0] != eventTag {
		return false
	}
	return Decode(data.Materialize(), into)
}
