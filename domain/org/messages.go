package org

import (
	"github.com/tenure-dev/tenure/domain"
)

// Event is one of the facts of an org's life.
//
//sumtype:decl
type Event interface{ isOrgEvent() }

type rule = domain.Rule[Phase, State, Event]

func on[C domain.Command](h func(State, C) ([]Event, error), from ...Phase) rule {
	return domain.On(h, from...)
}

func fact[E Event](name string, up ...domain.Upcast) domain.Entry { return domain.Fact[E](name, up...) }

// The events.
type (
	// Registered begins an org's life.
	Registered struct {
		Name   string `json:"name"`
		Slug   string `json:"slug,omitempty"`
		Parent string `json:"parent,omitempty"` // org_… of which it is a part
	}
	// Renamed gives it another name.
	Renamed struct {
		Name string `json:"name"`
	}
	// Suspended stops it: tenants requested in it from now on are born suspended.
	Suspended struct {
		Reason domain.Sealed `json:"reason"`
	}
	// Resumed lets it go on.
	Resumed struct {
		Reason domain.Sealed `json:"reason"`
	}
	// Noted remembers a caller's command that changed nothing.
	Noted struct{}
)

func (Registered) isOrgEvent() {}
func (Renamed) isOrgEvent()    {}
func (Suspended) isOrgEvent()  {}
func (Resumed) isOrgEvent()    {}
func (Noted) isOrgEvent()      {}

// The commands.
type (
	// Register creates an org. Name or Slug must be given; Name is then the slug.
	Register struct {
		domain.Given `json:"-"`
		OrgID        string     `json:"orgId,omitempty"` // derived by the Bus
		Name         string     `json:"name,omitempty"`
		Slug         string     `json:"slug,omitempty"`
		ParentID     string     `json:"parentId,omitempty"`
		Parent       ParentFact `json:"-"`
	}
	// Rename gives the org another name.
	Rename struct {
		domain.Given `json:"-"`
		OrgID        string `json:"orgId"`
		Name         string `json:"name"`
	}
	// Suspend stops the org.
	Suspend struct {
		domain.Given `json:"-"`
		OrgID        string        `json:"orgId"`
		Reason       domain.Sealed `json:"reason"`
	}
	// Resume lets the org go on.
	Resume struct {
		domain.Given `json:"-"`
		OrgID        string        `json:"orgId"`
		Reason       domain.Sealed `json:"reason"`
	}
	// ParentFact is what registering needs to know of the parent.
	ParentFact struct{ Exists bool }
)

// Target is the org's id.
func (c Register) Target() string { return c.OrgID }

// IDPrefix is that of orgs.
func (c Register) IDPrefix() string { return domain.OrgID }

// SetID gives the command the id that the Bus derived.
func (c *Register) SetID(id string) { c.OrgID = id }

// Target is the org's id.
func (c Rename) Target() string { return c.OrgID }

// Target is the org's id.
func (c Suspend) Target() string { return c.OrgID }

// Target is the org's id.
func (c Resume) Target() string { return c.OrgID }

const nameLimit = 200 // bytes

// Check refuses malformed input before anything is read.
func (c Register) Check() error {
	switch {
	case c.Name == "" && c.Slug == "":
		return domain.Invalid("name", "must not be empty")
	case c.Slug != "":
		if err := domain.CheckSlug("slug", c.Slug); err != nil {
			return err
		}
	}
	if c.ParentID != "" {
		if err := domain.CheckID("parentId", domain.OrgID, c.ParentID); err != nil {
			return err
		}
	}
	return domain.CheckText("name", c.Name, nameLimit)
}

// Check refuses malformed input before anything is read.
func (c Rename) Check() error {
	if c.Name == "" {
		return domain.Invalid("name", "must not be empty")
	}
	return domain.FirstError(domain.CheckID("orgId", domain.OrgID, c.OrgID), domain.CheckText("name", c.Name, nameLimit))
}

// Check refuses malformed input before anything is read.
func (c Suspend) Check() error {
	return domain.FirstError(domain.CheckID("orgId", domain.OrgID, c.OrgID), domain.CheckReason(c.Reason))
}

// Check refuses malformed input before anything is read.
func (c Resume) Check() error {
	return domain.FirstError(domain.CheckID("orgId", domain.OrgID, c.OrgID), domain.CheckReason(c.Reason))
}
