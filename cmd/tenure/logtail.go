package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tenure-dev/tenure/adapters/eventstore"
	"github.com/tenure-dev/tenure/domain"
)

func logTailCommand() *cobra.Command {
	c := &cobra.Command{Use: "tail [STREAM]", Short: "Follow the log, or one stream, until Ctrl-C",
		Long: "Shows events as they are appended, until Ctrl-C. With STREAM only that stream's, and its last ones first. --from begins\n" +
			"behind a position instead; 0 is the log's start.",
		Args: cobra.MaximumNArgs(1), RunE: runLogTail}
	addEventStore(c.Flags())
	addOutput(c.Flags(), "table, or json: one event a line")
	c.Flags().Uint64("from", 0, "position behind which to begin (default: the present)")
	c.Flags().Int("lines", 10, "how many of STREAM's last events to show first")
	c.Flags().Bool("no-follow", false, "end where the log ends at present")
	return c
}

func runLogTail(cmd *cobra.Command, args []string) error {
	format, err := checkOutput(cmd, "table", "json")
	if err != nil {
		return err
	}
	stream := allStream
	if len(args) > 0 {
		stream = args[0]
	}
	lines, _ := cmd.Flags().GetInt("lines")
	switch {
	case stream == "", stream != allStream && strings.HasPrefix(stream, "$"):
		return usage("STREAM must be one of ours, or $all: the event store's own streams are not followed")
	case lines < 0:
		return usage("--lines must not be negative")
	}
	return withLog(cmd, func(ctx context.Context, log *eventstore.Log) error {
		out := &printer{w: cmd.OutOrStdout(), format: format}
		err := tail(ctx, cmd, log, stream, lines, out)
		if ctx.Err() != nil {
			return nil // Ctrl-C is how a tail ends
		}
		return err
	})
}

func tail(ctx context.Context, cmd *cobra.Command, log *eventstore.Log, stream string, lines int, out *printer) error {
	after, _ := cmd.Flags().GetUint64("from")
	if !cmd.Flags().Changed("from") {
		head, err := log.Head(ctx)
		if err != nil {
			return err
		}
		if stream != allStream {
			if err := lastOf(ctx, log, stream, lines, head, out); err != nil {
				return err
			}
		}
		after = head
	}
	once, _ := cmd.Flags().GetBool("no-follow")
	for d, err := range log.Follow(ctx, after) {
		switch {
		case err != nil:
			return err
		case d.Kind == domain.DeliveredEvent && (stream == allStream || d.Event.Stream == stream):
			if err := out.print(d.Event); err != nil {
				return err
			}
		case d.Kind == domain.CaughtUp && once:
			return nil
		}
	}
	return nil
}

// lastOf prints the last events of a stream that are not behind head, from where the tail goes on.
func lastOf(ctx context.Context, log *eventstore.Log, stream string, lines int, head uint64, out *printer) error {
	var last []domain.Recorded
	for e, err := range log.ReadBackwards(ctx, stream, eventstore.End, lines) {
		if err != nil {
			return err
		}
		if e.Commit <= head {
			last = append(last, e)
		}
	}
	for _, e := range slices.Backward(last) {
		if err := out.print(e); err != nil {
			return err
		}
	}
	return nil
}
