package graphql

import (
	"context"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/saga"
	"github.com/tenure-dev/tenure/graphql/generated"
	"github.com/tenure-dev/tenure/graphql/view"
)

func (m mutation) RetrySaga(ctx context.Context, in generated.RetrySagaInput) (*view.SagaPayload, error) {
	return m.saga(ctx, in.SagaID, form{in.IdempotencyKey, in.ExpectedRevision, "sagaId"}, func(id string) domain.Command {
		return saga.Retry{Saga: id, Reason: domain.Clear(text(in.Reason))}
	})
}

func (m mutation) CancelSaga(ctx context.Context, in generated.CancelSagaInput) (*view.SagaPayload, error) {
	return m.saga(ctx, in.SagaID, form{in.IdempotencyKey, in.ExpectedRevision, "sagaId"}, func(id string) domain.Command {
		return saga.Cancel{Saga: id, Reason: domain.Clear(text(in.Reason))}
	})
}

func (m mutation) saga(ctx context.Context, sagaID string, f form, command func(id string) domain.Command) (*view.SagaPayload, error) {
	id, err := m.find(ctx, sagaID)
	var answer view.Answer
	if err == nil {
		_, answer, err = m.do(ctx, command(id), f)
	} else {
		answer.UserErrors, err = userErrors(err, f.target)
	}
	return &view.SagaPayload{Answer: answer, ID: sagaID}, err
}

func (m mutation) find(ctx context.Context, sagaID string) (string, error) {
	if err := domain.CheckID("sagaId", domain.SagaID, sagaID); err != nil {
		return "", err
	}
	id, ok, err := m.Sagas.FindSaga(ctx, sagaID)
	switch {
	case err != nil:
		return "", err
	case !ok:
		return "", domain.NotFound("sagaId", "names no saga")
	}
	return id, nil
}

// NamedSagas finds sagas by trying the streams of those names, which are those of all definitions.
type NamedSagas struct {
	States interface {
		// State folds a stream; the revision is domain.NoStream where there is none. A commands.Bus does.
		State(ctx context.Context, stream string) (state any, revision int64, err error)
	}
	Names []string
}

// FindSaga implements Sagas.
func (n NamedSagas) FindSaga(ctx context.Context, sagaID string) (id string, ok bool, err error) {
	for _, name := range n.Names {
		_, revision, err := n.States.State(ctx, saga.Stream(name, sagaID))
		if err != nil {
			return "", false, err
		}
		if revision != domain.NoStream {
			return name + "." + sagaID, true, nil
		}
	}
	return "", false, nil
}
