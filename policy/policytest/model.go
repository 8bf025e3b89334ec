package policytest

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/deputy-id/deputy/identity"
)

// model is what a file says there is, as the engine wants it.
type model struct {
	applications []*identity.Application
	agents       map[string]*identity.Agent
	principals   map[string]*identity.Principal
}

const defaultMaxSeconds = 3600

func (f *File) model() (*model, error) {
	m := &model{agents: make(map[string]*identity.Agent), principals: make(map[string]*identity.Principal)}
	var names, scopes []string
	for _, a := range f.Applications {
		own, err := identity.NewScopes(a.Scopes)
		if err != nil {
			return nil, fmt.Errorf("application %q: scopes: %w", a.Name, err)
		}
		app := &identity.Application{
			Name: a.Name, Audience: cmp.Or(a.Audience, "urn:"+a.Name), Scopes: own, Tags: sorted(a.Tags),
			Verification: cmp.Or(identity.Verification(a.Verification), identity.VerifyOnline),
		}
		if err := app.Validate(); err != nil {
			return nil, fmt.Errorf("application %q: %w", a.Name, err)
		}
		m.applications = append(m.applications, app)
		names, scopes = append(names, a.Name), append(scopes, a.Scopes...)
	}
	for _, a := range f.Agents {
		own := scopes
		if a.DefaultScopes != nil {
			own = *a.DefaultScopes
		}
		defaults, err := identity.NewScopes(own)
		if err != nil {
			return nil, fmt.Errorf("agent %q: default_scopes: %w", a.Name, err)
		}
		agent := &identity.Agent{
			Name: a.Name, OwnerGroup: a.OwnerGroup, Type: cmp.Or(identity.AgentType(a.Type), identity.AgentAutonomous), DefaultScopes: defaults,
			MaxSessionSeconds: cmp.Or(a.MaxSeconds, defaultMaxSeconds), Applications: sorted(names), Groups: sorted(a.Groups), Labels: a.Labels,
			Status: identity.StatusActive, Generation: 1,
		}
		if a.Applications != nil {
			agent.Applications = sorted(*a.Applications)
		}
		if err := agent.Validate(); err != nil {
			return nil, fmt.Errorf("agent %q: %w", a.Name, err)
		}
		m.agents[a.Name] = agent
	}
	for _, p := range f.Principals {
		principal := &identity.Principal{ID: p.ID, Groups: sorted(p.Groups), Status: identity.StatusActive, Generation: 1}
		if err := principal.Validate(); err != nil {
			return nil, fmt.Errorf("principal %q: %w", p.ID, err)
		}
		m.principals[p.ID] = principal
	}
	return m, nil
}

func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return list
}

// Application implements policy.Applications.
func (m *model) Application(name string) (*identity.Application, bool) {
	return m.find(func(a *identity.Application) bool { return a.Name == name })
}

// ApplicationByAudience implements policy.Applications.
func (m *model) ApplicationByAudience(uri string) (*identity.Application, bool) {
	return m.find(func(a *identity.Application) bool { return a.Audience == uri })
}

// ApplicationOwning implements policy.Applications.
func (m *model) ApplicationOwning(scope string) (*identity.Application, bool) {
	return m.find(func(a *identity.Application) bool { return a.Scopes.Contains(scope) })
}

func (m *model) find(match func(*identity.Application) bool) (*identity.Application, bool) {
	i := slices.IndexFunc(m.applications, match)
	if i < 0 {
		return nil, false
	}
	return m.applications[i], true
}
