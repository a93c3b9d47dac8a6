package eventstore

import "github.com/tenure-dev/tenure/adapters/eventstore/codec"

// The client hides its dial options, so gRPC's registry is the one way to give it another codec. It has no lock and asks to be
// written during initialisation alone: by the time that Open is called, others of this process may be making calls.
func init() { codec.Register() }
