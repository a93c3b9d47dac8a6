package main

import (
	"context"
	"math"

	"github.com/spf13/cobra"

	"github.com/tenure-dev/tenure/adapters/eventstore"
	"github.com/tenure-dev/tenure/domain"
)

func logReadCommand() *cobra.Command {
	c := &cobra.Command{Use: "read STREAM", Short: "Read a stream's events",
		Long: "Reads a stream's events, such as tenant-ten_…, in their order. The stream '$all' is the whole log; --from is then the\n" +
			"position behind which to begin.",
		Args: cobra.ExactArgs(1), RunE: runLogRead}
	addEventStore(c.Flags())
	addOutput(c.Flags(), "table, or json: one event a line")
	c.Flags().Int64("from", 0, "revision to begin with")
	c.Flags().Int("limit", 0, "end after this many events; 0 is no limit")
	return c
}

func runLogRead(cmd *cobra.Command, args []string) error {
	format, err := checkOutput(cmd, "table", "json")
	if err != nil {
		return err
	}
	from, _ := cmd.Flags().GetInt64("from")
	limit, _ := cmd.Flags().GetInt("limit")
	switch {
	case args[0] == "":
		return usage("STREAM is empty")
	case from < 0:
		return usage("--from must not be negative")
	case limit < 0:
		return usage("--limit must not be negative")
	case limit == 0:
		limit = math.MaxInt
	}
	return withLog(cmd, func(ctx context.Context, log *eventstore.Log) error {
		events := log.ReadStream(ctx, args[0], from)
		if args[0] == allStream {
			events = log.ReadAll(ctx, uint64(from), limit)
		}
		out, count := printer{w: cmd.OutOrStdout(), format: format}, 0
		for e, err := range events {
			if err == nil {
				err = out.print(e)
			}
			if err != nil {
				return err
			}
			if count++; count == limit {
				break
			}
		}
		if count == 0 && from == 0 && args[0] != allStream {
			return coded(domain.CodeNotFound, "there is no stream %s", args[0])
		}
		return nil
	})
}
