package identity

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds of policies. Each mint may have to evaluate all of them, and each node keeps all of them compiled.
const (
	MaxPolicies     = 1000
	MaxPolicyLength = 16 << 10 // bytes of text: some hundred lines
)

// PolicyMode says what a policy that forbids comes to.
type PolicyMode string

// A policy in mode monitor is evaluated and counted, and denies nothing, so that it can be measured before it is
// enforced.
const (
	PolicyEnforce PolicyMode = "enforce"
	PolicyMonitor PolicyMode = "monitor"
	PolicyOff     PolicyMode = "off"
)

// PolicyModes lists every mode, the strictest first.
func PolicyModes() []PolicyMode { return []PolicyMode{PolicyEnforce, PolicyMonitor, PolicyOff} }

// ValidPolicyMode reports what is wrong with a mode, or nil.
func ValidPolicyMode(mode PolicyMode) error {
	var v violations
	v.mode("/mode", mode)
	return v.err("the mode is not valid")
}

func (v *violations) mode(pointer string, mode PolicyMode) {
	if !slices.Contains(PolicyModes(), mode) {
		v.add(pointer, "is %.64q; it must be one of %v", string(mode), PolicyModes())
	}
}

// Policy is a rule that people write, in Cedar. It can only forbid: what is allowed follows from the model alone.
type Policy struct {
	ID          string     `codec:"i"` // a slug, as operators type it
	Description string     `codec:"d,omitempty"`
	Text        string     `codec:"x"` // Cedar
	Mode        PolicyMode `codec:"m"`
	Version     uint64     `codec:"v"`           // 1 for the first text, and one more for each change since
	By          string     `codec:"b,omitempty"` // who made the last change
	Created     Instant    `codec:"ct"`
	Updated     Instant    `codec:"ut"`
	Revision    uint64     `codec:"r"` // log index of the last change
}

// Validate holds every field that a caller may set to its bound. Whether the text is a policy that the schema knows
// is for package policy to say.
func (p *Policy) Validate() error {
	var v violations
	v.name("/id", p.ID)
	v.text("/description", p.Description, MaxDescriptionLength)
	switch {
	case p.Text == "":
		v.add("/text", "is empty; it is a policy in Cedar")
	case len(p.Text) > MaxPolicyLength:
		v.add("/text", "has %d bytes; at most %d are allowed", len(p.Text), MaxPolicyLength)
	case !utf8.ValidString(p.Text):
		v.add("/text", "is not UTF-8")
	default:
		v.text("/text", strings.ReplaceAll(p.Text, "\r\n", "\n"), MaxPolicyLength)
	}
	v.mode("/mode", p.Mode)
	return v.err("the policy is not valid")
}
