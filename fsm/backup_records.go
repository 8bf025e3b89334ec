package fsm

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/go-msgpack/v2/codec"

	"github.com/deputy-id/deputy/identity"
)

// imported are the decoded records of one frame of a backup, each with a key of its own, in the order of their keys.
type imported struct {
	section      section
	first, last  []byte // keys
	records      int
	agents       []*wireAgent
	principals   []*wirePrincipal
	applications []*identity.Application
	delegations  []*record
	bars         []*wireBar
	revocations  []*identity.Revocation
	apiTokens    []*identity.APIToken
	policies     []*identity.Policy
}

// decodeImport is total: whatever the bytes are, it answers records or an error that wraps ErrSnapshotCorrupt.
func decodeImport(number section, payload []byte) (*imported, error) {
	i := &imported{section: number}
	d := codec.NewDecoderBytes(payload, handle)
	for d.NumBytesRead() < len(payload) {
		key, err := i.decodeOne(d)
		switch {
		case err != nil:
			return nil, err
		case len(key) == 0:
			return nil, corrupt("section %d holds a record without a name", number)
		case i.records == maxImportRecords:
			return nil, corrupt("a frame of section %d has more than %d records", number, maxImportRecords)
		case i.records == 0:
			i.first = key
		case bytes.Compare(key, i.last) <= 0:
			return nil, corrupt("the records of section %d are not in order", number)
		}
		i.last = key
		i.records++
	}
	return i, nil
}

// decodeOne reads the next record and returns its key.
func (i *imported) decodeOne(d *codec.Decoder) ([]byte, error) {
	switch i.section {
	case sectionAgents:
		return decodeInto(d, &i.agents, func(w *wireAgent) string {
			if w.Agent == nil {
				return ""
			}
			return w.Agent.Name
		})
	case sectionPrincipals:
		return decodeInto(d, &i.principals, func(w *wirePrincipal) string {
			if w.Principal == nil {
				return ""
			}
			return w.Principal.ID
		})
	case sectionApplications:
		return decodeInto(d, &i.applications, func(a *identity.Application) string { return a.Name })
	case sectionDelegations:
		return i.decodeDelegation(d)
	case sectionBars:
		return decodeInto(d, &i.bars, func(w *wireBar) string { return w.Principal + "\x00" + w.Agent })
	case sectionRevocations:
		return decodeInto(d, &i.revocations, func(r *identity.Revocation) string { return string(r.Handle) })
	case sectionAPITokens:
		return decodeInto(d, &i.apiTokens, func(t *identity.APIToken) string { return t.ID })
	case sectionPolicies:
		return decodeInto(d, &i.policies, func(p *identity.Policy) string { return p.ID })
	default:
		return nil, corrupt("section %d has no place in a backup", i.section)
	}
}

func decodeInto[T any](d *codec.Decoder, into *[]*T, key func(*T) string) ([]byte, error) {
	v := new(T)
	if err := d.Decode(v); err != nil {
		// The library's own message may quote what it read, and backups hold hashes of secrets.
		return nil, corrupt("it holds what is no record of its section")
	}
	*into = append(*into, v)
	return []byte(key(v)), nil
}

func (i *imported) decodeDelegation(d *codec.Decoder) ([]byte, error) {
	var wires []*wireRecord
	if _, err := decodeInto(d, &wires, func(*wireRecord) string { return "" }); err != nil {
		return nil, err
	}
	r, err := wires[0].record()
	if err != nil {
		return nil, err
	}
	i.delegations = append(i.delegations, r)
	return r.id[:], nil
}

// follows reports whether the records come after the last one of the frame before.
func (i *imported) follows(number section, key []byte) bool {
	return i.section > number || i.section == number && bytes.Compare(i.first, key) > 0
}

// check holds an agent to what the state machine itself relies on.
func (w *wireAgent) check(generation uint64) error {
	if w.Born == 0 || w.Born > w.Agent.Generation || w.Agent.Generation > generation {
		return fmt.Errorf("agent %.64q has generations that don't fit together", w.Agent.Name)
	}
	return statusError(validStatus(w.Agent.Status))
}

// check holds a principal to what the state machine itself relies on.
func (w *wirePrincipal) check(generation uint64) error {
	p := w.Principal
	if w.Born == 0 || w.Born > p.Generation || p.Generation > generation || w.Killed > generation {
		return fmt.Errorf("principal %.300q has generations that don't fit together", p.ID)
	}
	return statusError(validStatus(p.Status))
}

// statusError keeps a nil pointer from becoming an error.
func statusError(err *identity.Error) error {
	if err == nil {
		return nil
	}
	return err
}

// validate holds the records to the bounds of the domain. That is done where a backup is read, and not where it is
// applied: such rules change between versions, and replicas of two versions would come apart by them.
func (i *imported) validate(h *BackupHeader) error {
	for _, w := range i.agents {
		if err := errors.Join(w.check(h.Generation), w.Agent.Validate(), validCredentials(w.Agent.Credentials)); err != nil {
			return fmt.Errorf("agent %.64q: %w", w.Agent.Name, err)
		}
	}
	for _, w := range i.principals {
		if err := errors.Join(w.check(h.Generation), w.Principal.Validate()); err != nil {
			return fmt.Errorf("principal %.300q: %w", w.Principal.ID, err)
		}
	}
	for _, a := range i.applications {
		if err := errors.Join(a.Validate(), validCredentials(a.Credentials)); err != nil {
			return fmt.Errorf("application %.64q: %w", a.Name, err)
		}
	}
	for _, r := range i.delegations {
		if r.made > h.Generation {
			return fmt.Errorf("delegation %s has a generation that never was", r.key())
		}
		if err := r.delegation(&principalRow{}).Validate(); err != nil {
			return fmt.Errorf("delegation %s: %w", r.key(), err)
		}
	}
	for _, w := range i.bars {
		if w.Made > h.Generation {
			return errors.New("a withdrawal of consent has a generation that never was")
		}
		if err := errors.Join(identity.ValidPrincipal(w.Principal), identity.ValidName(w.Agent)); err != nil {
			return fmt.Errorf("a withdrawal of consent: %w", err)
		}
	}
	for _, r := range i.revocations {
		if len(r.Handle) > identity.MaxHandleLength || generationOf(r.Handle) > maxGeneration {
			return fmt.Errorf("the revoked handle %.64q is none that a token has", r.Handle)
		}
	}
	for _, t := range i.apiTokens {
		if _, err := identity.ParseID(identity.PrefixAPIToken, t.ID); err != nil || len(t.Hash) != sha256.Size {
			return fmt.Errorf("API token %.64q has an id or a hash of another form", t.ID)
		}
		if err := t.Validate(); err != nil {
			return fmt.Errorf("API token %s: %w", t.ID, err)
		}
	}
	for _, p := range i.policies {
		if err := p.Validate(); err != nil {
			return fmt.Errorf("policy %.64q: %w", p.ID, err)
		}
	}
	return nil
}

func validCredentials(list []identity.Credential) error {
	if len(list) > identity.MaxCredentials {
		return fmt.Errorf("has %d credentials; at most %d are allowed", len(list), identity.MaxCredentials)
	}
	for i := range list {
		if _, err := identity.ParseID(identity.PrefixCredential, list[i].ID); err != nil {
			return fmt.Errorf("credential %.64q has an id of another form", strings.ToValidUTF8(list[i].ID, "?"))
		}
		if err := list[i].Validate(); err != nil {
			return fmt.Errorf("credential %s: %w", list[i].ID, err)
		}
	}
	return nil
}
