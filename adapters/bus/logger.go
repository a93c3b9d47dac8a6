package bus

import (
	"context"
	"log/slog"
	"maps"
	"slices"

	"github.com/ThreeDotsLabs/watermill"
)

// logger is watermill's logger over slog.
type logger struct{ to *slog.Logger }

// NewLogger gives watermill a logger. What watermill calls information is of use to its own authors, and comes as debugging;
// messages, which it would print whole, do not come: they may hold personal data.
func NewLogger(to *slog.Logger) watermill.LoggerAdapter { return logger{to} }

func (l logger) Error(text string, err error, fields watermill.LogFields) {
	l.log(slog.LevelError, text, fields, slog.Any("error", err))
}

func (l logger) Info(text string, fields watermill.LogFields) { l.log(slog.LevelDebug, text, fields) }

func (l logger) Debug(text string, fields watermill.LogFields) { l.log(slog.LevelDebug, text, fields) }

func (l logger) Trace(text string, fields watermill.LogFields) {
	l.log(watermill.LevelTrace, text, fields)
}

func (l logger) With(fields watermill.LogFields) watermill.LoggerAdapter {
	return logger{slog.New(l.to.Handler().WithAttrs(attributes(fields)))}
}

func (l logger) log(level slog.Level, text string, fields watermill.LogFields, more ...slog.Attr) {
	if l.to.Enabled(context.Background(), level) {
		l.to.LogAttrs(context.Background(), level, text, append(attributes(fields), more...)...)
	}
}

// attributes come in the order of their names.
func attributes(fields watermill.LogFields) []slog.Attr {
	all := make([]slog.Attr, 0, len(fields)+1)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if name != "not_sent_message" {
			all = append(all, slog.Any(name, fields[name]))
		}
	}
	return all
}
