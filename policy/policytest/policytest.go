// Package policytest tells whether policies say what their authors mean: a file of cases, each a request and the
// decision that is expected of it, is held to the very engine that decides at a node. It is made for policies that are
// kept in a repository and checked before they are applied.
//
// A file is YAML, or JSON, which is YAML:
//
//	applications:
//	  - {name: ledger, audience: "https://ledger.example.com", scopes: [ledger.post], tags: [production-write]}
//	agents:
//	  - {name: bookkeeper, agent_type: autonomous}
//	principals:
//	  - {id: ann@example.com, groups: [finance]}
//	cases:
//	  - name: production needs a human
//	    agent: bookkeeper
//	    scopes: [ledger.post]
//	    expect: deny
//	    policy: production-write-needs-approval
//	    code: approval-required
//	  - name: with a human it works
//	    agent: bookkeeper
//	    scopes: [ledger.post]
//	    approved: true
//	    expect: allow
//
// What a file leaves out is filled in so that the model's own rules agree: an agent is active, assigned to every
// application, and has their scopes; who acts for a principal does so under a delegation of all of that.
package policytest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/deputy-id/deputy/identity"
)

// Bounds of a file. Policies of a whole company are tested with a few hundred cases.
const (
	MaxBytes = 1 << 20
	MaxCases = 10_000
)

// File is a file of cases. Its fields are those of the admin surface, where that has them.
type File struct {
	Applications []Application `yaml:"applications"`
	Agents       []Agent       `yaml:"agents"`
	Principals   []Principal   `yaml:"principals"`
	Cases        []Case        `yaml:"cases"`
}

// Application is a downstream system.
type Application struct {
	Name         string   `yaml:"name"`
	Audience     string   `yaml:"audience"` // urn:NAME where it is left out
	Scopes       []string `yaml:"scopes"`
	Tags         []string `yaml:"tags"`
	Verification string   `yaml:"verification"` // online where it is left out
}

// Agent is an agent.
type Agent struct {
	Name          string            `yaml:"name"`
	Type          string            `yaml:"agent_type"` // autonomous where it is left out
	OwnerGroup    string            `yaml:"owner_group"`
	DefaultScopes *[]string         `yaml:"default_scopes"`
	Applications  *[]string         `yaml:"applications"`
	Groups        []string          `yaml:"groups"`
	Labels        map[string]string `yaml:"labels"`
	MaxSeconds    int64             `yaml:"max_session_duration_seconds"` // an hour where it is left out
}

// Principal is a user.
type Principal struct {
	ID     string   `yaml:"id"`
	Groups []string `yaml:"groups"`
}

// Case is one request and what is expected of it.
type Case struct {
	Name   string `yaml:"name"`
	Action string `yaml:"action"` // CreateSession where it is left out, or CallTool, Delegate

	Agent     string   `yaml:"agent"`
	Principal string   `yaml:"principal"` // none: an autonomous run
	Chain     []string `yaml:"chain"`     // the agents before this one, the first one first
	Scopes    []string `yaml:"scopes"`
	Audience  []string `yaml:"audience"`
	Reason    string   `yaml:"trigger_reason"`
	Seconds   int64    `yaml:"max_duration_seconds"`
	MaxHops   uint8    `yaml:"max_hops"` // of a delegation
	Tool      *Tool    `yaml:"tool"`
	SourceIP  string   `yaml:"source_ip"`
	Time      string   `yaml:"time"` // Monday 5 January 2026, noon UTC, where it is left out
	Approved  bool     `yaml:"approved"`

	Expect    string    `yaml:"expect"`    // allow or deny
	Policy    string    `yaml:"policy"`    // that refuses, where it is given
	Code      string    `yaml:"code"`      // of the refusal, where it is given
	Monitored *[]string `yaml:"monitored"` // exactly the policies that would forbid in mode monitor, where it is given

	line int
}

// Tool is the tool that is called.
type Tool struct {
	Name          string `yaml:"name"`
	Application   string `yaml:"application"`
	RequiredScope string `yaml:"required_scope"`
	ArgumentsHash string `yaml:"arguments_hash"`
}

// Parse reads a file. The name is for messages. Errors are *identity.Error with the line where something is wrong.
func Parse(name string, data []byte) (*File, error) {
	if len(data) > MaxBytes {
		return nil, identity.Errorf(identity.CodeTooLarge, "%s has %d bytes; at most %d are allowed", name, len(data), MaxBytes)
	}
	file := new(File)
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(file); err != nil && !errors.Is(err, io.EOF) {
		return nil, identity.Errorf(identity.CodeInvalid, "%s: %w", name, err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, identity.Errorf(identity.CodeInvalid, "%s holds more than one document", name)
	}
	if len(file.Cases) > MaxCases {
		return nil, identity.Errorf(identity.CodeTooLarge, "%s has %d cases; at most %d are allowed", name, len(file.Cases), MaxCases)
	}
	var places struct {
		Cases []yaml.Node `yaml:"cases"`
	}
	if err := yaml.Unmarshal(data, &places); err != nil {
		return nil, identity.Errorf(identity.CodeInvalid, "%s: %w", name, err)
	}
	for i := range file.Cases {
		file.Cases[i].line = places.Cases[i].Line
	}
	if err := file.check(); err != nil {
		return nil, identity.Errorf(identity.CodeInvalid, "%s: %w", name, err)
	}
	return file, nil
}

// check holds the file to itself, so that a mistyped name is not taken for a refusal.
func (f *File) check() error {
	if len(f.Cases) == 0 {
		return errors.New("there are no cases")
	}
	m, err := f.model()
	if err != nil {
		return err
	}
	for i := range f.Cases {
		if err := f.Cases[i].check(m); err != nil {
			return fmt.Errorf("line %d: case %q: %w", f.Cases[i].line, f.Cases[i].Name, err)
		}
	}
	return nil
}

func (c *Case) check(m *model) error {
	switch {
	case c.Name == "":
		return errors.New("has no name")
	case c.Expect != "allow" && c.Expect != "deny":
		return fmt.Errorf("expects %q; it must be allow or deny", c.Expect)
	case c.Expect == "allow" && (c.Policy != "" || c.Code != ""):
		return errors.New("expects to be allowed, and names a policy or a code that refuses")
	}
	for _, agent := range append([]string{c.Agent}, c.Chain...) {
		if m.agents[agent] == nil {
			return fmt.Errorf("there is no agent %q in the file", agent)
		}
	}
	if c.Principal != "" && m.principals[c.Principal] == nil {
		return fmt.Errorf("there is no principal %q in the file", c.Principal)
	}
	switch c.Action {
	case "", actionCreateSession:
	case actionCallTool:
		if c.Tool == nil {
			return errors.New("calls a tool, and names none")
		}
	case actionDelegate:
		if c.Principal == "" {
			return errors.New("delegates, and names no principal")
		}
	default:
		return fmt.Errorf("has the action %q; it must be CreateSession, CallTool or Delegate", c.Action)
	}
	if c.SourceIP != "" {
		if _, err := netip.ParseAddr(c.SourceIP); err != nil {
			return fmt.Errorf("source_ip: %w", err)
		}
	}
	if c.Time != "" {
		if _, err := time.Parse(time.RFC3339, c.Time); err != nil {
			return fmt.Errorf("time: %w", err)
		}
	}
	if _, err := identity.NewScopes(c.Scopes); err != nil {
		return fmt.Errorf("scopes: %w", err)
	}
	return nil
}
