package commands

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/tenure-dev/tenure/domain"
)

// accept checks a call before anything is read, takes the hash of the caller's input, and derives the ids.
func (b *Bus) accept(ctx context.Context, call Call) (*op, error) {
	kind := b.commands[reflect.TypeOf(call.Command)]
	if kind == nil {
		return nil, internal(fmt.Errorf("%T is in no aggregate's command catalog", call.Command))
	}
	if err := checkCall(call); err != nil {
		return nil, err
	}
	if c, ok := call.Command.(interface{ Check() error }); ok {
		if err := c.Check(); err != nil {
			return nil, coded(err)
		}
	}
	if b.Authorize != nil {
		if err := b.Authorize(ctx, call.Actor, call.Command); err != nil {
			return nil, coded(err)
		}
	}
	o := &op{call: call, kind: kind, aggregate: kind.aggregate, command: reflect.New(reflect.TypeOf(call.Command))}
	o.command.Elem().Set(reflect.ValueOf(call.Command))
	if call.Key != "" {
		hash, err := b.inputHash(call)
		if err != nil {
			return nil, internal(err)
		}
		o.hash = hash
	}
	o.nameTarget()
	if o.target == "" {
		return nil, internal(fmt.Errorf("%s names no target", kind.name))
	}
	o.stream = o.aggregate.Stream(o.target)
	o.id = call.CommandID
	if call.Key != "" {
		o.id = domain.CallerCommandID(call.Actor, kind.name, o.target, call.Key)
	}
	return o, nil
}

func checkCall(call Call) error {
	if call.Expected != nil && *call.Expected < domain.NoStream {
		return domain.Invalid("expectedRevision", "must not be below %d", domain.NoStream)
	}
	if call.CommandID == "" {
		if call.Actor == "" {
			return &domain.Error{Code: domain.CodeUnauthenticated, Message: "nobody is named as the one who asks"}
		}
		return domain.CheckReference("idempotencyKey", call.Key)
	}
	if call.Key != "" {
		return internal(fmt.Errorf("a call has both a key and a command id"))
	}
	if _, err := domain.ParseUUID(call.CommandID); err != nil {
		return internal(fmt.Errorf("command id: %w", err))
	}
	return nil
}

// nameTarget finds whom the command is for, and gives a creator without an id one that a retry would be given again.
func (o *op) nameTarget() {
	if c, ok := o.command.Interface().(domain.Creator); ok && c.Target() == "" {
		key := o.call.Key
		if key == "" {
			key = o.call.CommandID
		}
		c.SetID(domain.NewID(c.IDPrefix(), o.call.Actor, o.kind.name, key))
		o.creates = true
	}
	o.target = o.command.Interface().(domain.Command).Target()
}

// inputHash is the keyed hash of what the caller gave: the command with its clear text, and the expected revision. Keys are
// sorted, so that the order of a struct's fields does not matter.
func (b *Bus) inputHash(call Call) (string, error) {
	open, err := domain.MapSealed(call.Command, func(clear string) (domain.Sealed, error) {
		return domain.Sealed{Text: []byte(clear)}, nil
	})
	if err != nil {
		return "", err
	}
	plain, err := json.Marshal(open)
	if err != nil {
		return "", err
	}
	var fields any
	d := json.NewDecoder(bytes.NewReader(plain))
	d.UseNumber()
	if err := d.Decode(&fields); err != nil {
		return "", err
	}
	canonical, err := json.Marshal(map[string]any{"command": fields, "expected": call.Expected})
	if err != nil {
		return "", err
	}
	h := hmac.New(sha256.New, b.HashKey)
	h.Write(canonical)
	return hex.EncodeToString(h.Sum(nil)), nil
}
