package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
)

// newLogger logs for a person on a terminal, as JSON lines elsewhere.
func newLogger(w io.Writer, level slog.Level) *slog.Logger {
	if isTerminal(w) {
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: time.TimeOnly}
	}
	return slog.New(handler{zerolog.New(zerolog.SyncWriter(w)).Level(zerologLevel(level)), ""})
}

// loggerOf is a command's logger, with the level of --log-level.
func loggerOf(cmd *cobra.Command) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(text(cmd, "log-level"))); err != nil {
		return nil, usage("--log-level must be debug, info, warn or error")
	}
	return newLogger(cmd.ErrOrStderr(), level), nil
}

// handler is zerolog behind slog. zerolog's own puts attributes into groups that were opened after them.
type handler struct {
	to     zerolog.Logger
	prefix string // of the open groups, such as "a.b."
}

func (h handler) Enabled(_ context.Context, level slog.Level) bool {
	return zerologLevel(level) >= h.to.GetLevel()
}

func (h handler) Handle(_ context.Context, r slog.Record) error {
	e := h.to.WithLevel(zerologLevel(r.Level)).Time(zerolog.TimestampFieldName, r.Time)
	r.Attrs(func(a slog.Attr) bool {
		each(h.prefix, a, func(key string, value any) { e.Interface(key, value) })
		return true
	})
	e.Msg(r.Message)
	return nil
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := h.to.With()
	for _, a := range attrs {
		each(h.prefix, a, func(key string, value any) { with = with.Interface(key, value) })
	}
	h.to = with.Logger()
	return h
}

func (h handler) WithGroup(name string) slog.Handler {
	if name != "" {
		h.prefix += name + "."
	}
	return h
}

// each calls write for every value in an attribute, groups written out with dots.
func each(prefix string, a slog.Attr, write func(key string, value any)) {
	value := a.Value.Resolve()
	switch {
	case value.Kind() == slog.KindGroup:
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, within := range value.Group() {
			each(prefix, within, write)
		}
	case a.Equal(slog.Attr{}):
	default:
		write(prefix+a.Key, plainValue(value.Any()))
	}
}

// plainValue writes out what JSON would write as an empty object or as a number of nanoseconds.
func plainValue(value any) any {
	switch value.(type) {
	case error, fmt.Stringer:
		return fmt.Sprint(value) // which survives nil pointers
	default:
		return value
	}
}

func zerologLevel(level slog.Level) zerolog.Level {
	switch {
	case level < slog.LevelInfo:
		return zerolog.DebugLevel
	case level < slog.LevelWarn:
		return zerolog.InfoLevel
	case level < slog.LevelError:
		return zerolog.WarnLevel
	default:
		return zerolog.ErrorLevel
	}
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
