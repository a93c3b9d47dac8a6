package sink

import "github.com/tenure-dev/tenure/domain"

const streamLimit = 512 // bytes

// Check refuses malformed input before anything is read.
func (c Pause) Check() error {
	return domain.FirstError(domain.CheckSlug("sink", c.Sink), domain.CheckReason(c.Reason))
}

// Check refuses malformed input before anything is read.
func (c Resume) Check() error {
	return domain.FirstError(domain.CheckSlug("sink", c.Sink), domain.CheckReason(c.Reason))
}

// Check refuses malformed input before anything is read.
func (c RequestRedelivery) Check() error {
	if err := domain.CheckSlug("sink", c.Sink); err != nil {
		return err
	}
	switch c.Scope {
	case ScopeEvent:
		return domain.FirstError(checkPlace("from", c.From), absent("to", c.To, c.Scope))
	case ScopeRange:
		if err := domain.FirstError(checkPlace("from", c.From), checkPlace("to", c.To)); err != nil {
			return err
		}
		if c.From.Stream == c.To.Stream && c.From.Revision > c.To.Revision {
			return domain.Invalid("to.revision", "must not be below from.revision")
		}
		return nil
	case ScopeParked:
		return domain.FirstError(absent("from", c.From, c.Scope), absent("to", c.To, c.Scope))
	}
	return domain.Invalid("scope", "must be event, range or parked")
}

func checkPlace(field string, p *Place) error {
	switch {
	case p == nil:
		return domain.Invalid(field, "must name a stream and a revision")
	case p.Stream == "":
		return domain.Invalid(field+".stream", "must not be empty")
	case p.Revision < 0:
		return domain.Invalid(field+".revision", "must not be negative")
	}
	return domain.CheckText(field+".stream", p.Stream, streamLimit)
}

func absent(field string, p *Place, scope string) error {
	if p != nil {
		return domain.Invalid(field, "must be left out with the scope %s", scope)
	}
	return nil
}

// Check refuses malformed input before anything is read.
func (c Park) Check() error {
	return domain.FirstError(domain.CheckSlug("sink", c.Sink), checkPlace("place", &c.Place), domain.CheckReference("eventId", c.EventID),
		domain.CheckReference("code", c.Code))
}

// Check refuses malformed input before anything is read.
func (c Deliver) Check() error {
	return domain.FirstError(domain.CheckSlug("sink", c.Sink), domain.CheckReference("eventId", c.EventID))
}

// Check refuses malformed input before anything is read.
func (c Disable) Check() error {
	if c.Why != WhyFailing && c.Why != WhyGone {
		return domain.Invalid("why", "must be failing or gone")
	}
	return domain.FirstError(domain.CheckSlug("sink", c.Sink), domain.CheckReference("code", c.Code))
}

// Check refuses malformed input before anything is read.
func (c FinishRedelivery) Check() error {
	if c.Delivered < 0 || c.Parked < 0 {
		return domain.Invalid("delivered", "and parked must not be negative")
	}
	return domain.FirstError(domain.CheckSlug("sink", c.Sink), domain.CheckReference("id", c.ID))
}
