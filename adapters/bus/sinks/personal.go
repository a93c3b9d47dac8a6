package sinks

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/tenure-dev/tenure/domain"
)

// Personal says what becomes of personal fields.
type Personal string

// What becomes of them.
const (
	Omit Personal = "omit" // null
	Hash Personal = "hash" // {"hash": hex HMAC-SHA-256 of the text under the sink's key}
	Open Personal = "open" // the text
)

var null = []byte("null")

// personal replaces the sealed values of a payload: objects with exactly subject, key and text. All else keeps its bytes:
// the order of keys, the digits of numbers. An erased subject's value is null in every mode.
type personal struct {
	mode   Personal
	opener Opener
	key    []byte
}

var sealedMark = []byte(`"subject"`)

func (p *personal) replace(ctx context.Context, data []byte) ([]byte, error) {
	if !json.Valid(data) {
		return nil, &domain.Error{Code: domain.CodeInternal, Message: "the payload is no JSON"}
	}
	if !bytes.Contains(data, sealedMark) && !bytes.ContainsRune(data, '\\') {
		return data, nil
	}
	w := walker{ctx: ctx, p: p, in: data, out: make([]byte, 0, len(data))}
	if err := w.value(); err != nil {
		return nil, err
	}
	return w.out, nil
}

// walker copies valid JSON from in to out.
type walker struct {
	ctx     context.Context
	p       *personal
	in, out []byte
	at      int
}

func (w *walker) space() {
	for w.at < len(w.in) && (w.in[w.at] == ' ' || w.in[w.at] == '\n' || w.in[w.at] == '\t' || w.in[w.at] == '\r') {
		w.at++
	}
}

func (w *walker) value() error {
	w.space()
	switch w.in[w.at] {
	case '{':
		return w.object()
	case '[':
		return w.elements(']', func() error { return w.value() })
	}
	w.scalar()
	return nil
}

// scalar copies a string, number or word.
func (w *walker) scalar() {
	start := w.at
	if w.in[w.at] == '"' {
		for w.at++; w.in[w.at] != '"'; w.at++ {
			if w.in[w.at] == '\\' {
				w.at++
			}
		}
		w.at++
	} else {
		for w.at < len(w.in) && !bytes.ContainsRune([]byte(",]} \n\t\r"), rune(w.in[w.at])) {
			w.at++
		}
	}
	w.out = append(w.out, w.in[start:w.at]...)
}

// object copies an object, or puts what the mode says where it is a sealed value.
func (w *walker) object() error {
	start, began := w.at, len(w.out)
	keys := map[string]int{}
	err := w.elements('}', func() error {
		from := len(w.out)
		w.scalar()
		var key string
		if err := json.Unmarshal(w.out[from:], &key); err != nil {
			return err
		}
		keys[key]++
		w.space()
		w.at++
		w.out = append(w.out, ':')
		return w.value()
	})
	if err != nil || len(keys) != 3 || keys["subject"] != 1 || keys["key"] != 1 || keys["text"] != 1 {
		return err
	}
	var s domain.Sealed
	if json.Unmarshal(w.in[start:w.at], &s) != nil {
		return nil
	}
	w.out = w.out[:began]
	text, err := w.p.put(w.ctx, s)
	w.out = append(w.out, text...)
	return err
}

// elements copies an object's or array's elements up to its end, without white space.
func (w *walker) elements(end byte, element func() error) error {
	w.out = append(w.out, w.in[w.at])
	w.at++
	for w.space(); w.in[w.at] != end; w.space() {
		if w.in[w.at] == ',' {
			w.out = append(w.out, ',')
			w.at++
			w.space()
		}
		if err := element(); err != nil {
			return err
		}
	}
	w.out = append(w.out, end)
	w.at++
	return nil
}

func (p *personal) put(ctx context.Context, s domain.Sealed) ([]byte, error) {
	if p.mode != Hash && p.mode != Open {
		return null, nil
	}
	text, ok, err := p.opener.Open(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("open a personal field: %w", err)
	}
	if !ok {
		return null, nil
	}
	if p.mode == Open {
		return json.Marshal(text)
	}
	m := hmac.New(sha256.New, p.key)
	m.Write([]byte(text))
	return []byte(`{"hash":"` + hex.EncodeToString(m.Sum(nil)) + `"}`), nil
}
