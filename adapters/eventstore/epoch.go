package eventstore

import (
	"context"
	"encoding/json"
	"time"

	"github.com/tenure-dev/tenure/domain"
)

// Epoch gives the log's epoch. An empty log begins with the one given here, before any other event of ours; control planes
// that race for it agree on the one that came first. A log with other events but no epoch is refused: it is not ours.
func (l *Log) Epoch(ctx context.Context, id string, number int64, now time.Time) (domain.Epoch, error) {
	for {
		known, _, err := l.lastEpoch(ctx)
		if err != nil || known.ID != "" {
			return known, err
		}
		for e, err := range l.ReadAll(ctx, 0, 1) {
			if err != nil {
				return domain.Epoch{}, err
			}
			if e.Stream != domain.EpochStream {
				return domain.Epoch{}, &domain.Error{Code: domain.CodeInternal, Message: "the log has events but no epoch: it was not begun by tenure"}
			}
		}
		err = l.beginEpoch(ctx, domain.Epoch{Number: number, ID: id}, domain.NoStream, now)
		if err != nil && domain.CodeOf(err) != domain.CodeConflict {
			return domain.Epoch{}, err
		}
	}
}

// BeginEpoch puts the log into a higher epoch, as a restore or a copy does. CodeConflict names a race that was lost.
func (l *Log) BeginEpoch(ctx context.Context, e domain.Epoch, now time.Time) error {
	known, revision, err := l.lastEpoch(ctx)
	if err != nil {
		return err
	}
	if e.Number <= known.Number || e.ID == known.ID {
		return domain.Invalid("epoch", "must be above %d and have another id", known.Number)
	}
	return l.beginEpoch(ctx, e, revision, now)
}

func (l *Log) lastEpoch(ctx context.Context) (domain.Epoch, int64, error) {
	for e, err := range l.ReadBackwards(ctx, domain.EpochStream, End, 1) {
		if err != nil {
			return domain.Epoch{}, 0, err
		}
		began, err := domain.NewRegistry(domain.EpochCatalog).DecodeRecorded(e)
		if err != nil {
			return domain.Epoch{}, 0, err
		}
		return domain.Epoch(began.(domain.EpochBegan)), e.Revision, nil
	}
	return domain.Epoch{}, domain.NoStream, nil
}

func (l *Log) beginEpoch(ctx context.Context, e domain.Epoch, expected int64, now time.Time) error {
	if e.Number < 1 || e.ID == "" {
		return domain.Invalid("epoch", "needs a number above 0 and an id")
	}
	data, err := json.Marshal(domain.EpochBegan(e))
	if err != nil {
		return err
	}
	command := domain.DeriveUUID("log.epoch", e.ID).String()
	meta := domain.Meta{Rev: 1, Correlation: command, CommandID: command, Actor: "system", RecordedAt: domain.Micro(now), Epoch: e}
	_, err = l.Append(ctx, domain.EpochStream, expected, []domain.Proposed{{ID: domain.EventID(command, domain.EpochStream, 0),
		Type: domain.EpochCatalog[0].Name, Data: data, Meta: meta.Encode()}})
	return err
}
