package fsm

import (
	"errors"
	"fmt"

	"github.com/deputy-id/deputy/identity"
	"github.com/tidwall/btree"
)

// A receipt is written as a wireReceipt, then one wireResult with its value for itself or for each item of
// its batch, so that no record is larger than one object.
type wireReceipt struct {
	ID          []byte           `codec:"i"`
	Fingerprint []byte           `codec:"f"`
	Order       uint64           `codec:"o"`
	Time        identity.Instant `codec:"t"`
	Index       uint64           `codec:"ix"`
	Batch       bool             `codec:"b,omitempty"`
	Results     int              `codec:"n"`
}

// wireResult is followed by a value of the type that Kind says, unless that is valueNone.
type wireResult struct {
	Index uint64          `codec:"ix"`
	Kind  valueKind       `codec:"k"`
	Err   *identity.Error `codec:"e,omitempty"`
}

// valueKind numbers the types that a Result's value may have. Numbers are only ever added.
type valueKind uint8

const (
	valueNone valueKind = iota
	valueAgent
	valueAgentChange
	valueCredential
	valueRevoked
	valuePrincipal
	valuePrincipalChange
	valueApplication
	valueRecord
	valueDelegationChange
	valueAPIToken
	valueJoinToken
	valueMember
	valueSigningKey
	valueSettings
	valuePurged
	valueImported
	valueTrustedIssuer
	valuePolicy
	valueApproval
)

func kindOfValue(v any) (valueKind, error) {
	switch v.(type) {
	case nil:
		return valueNone, nil
	case *identity.Agent:
		return valueAgent, nil
	case *AgentChange:
		return valueAgentChange, nil
	case *identity.Credential:
		return valueCredential, nil
	case *Revoked:
		return valueRevoked, nil
	case *identity.Principal:
		return valuePrincipal, nil
	case *PrincipalChange:
		return valuePrincipalChange, nil
	case *identity.Application:
		return valueApplication, nil
	case *record:
		return valueRecord, nil
	case *DelegationChange:
		return valueDelegationChange, nil
	case *identity.APIToken:
		return valueAPIToken, nil
	case *identity.JoinToken:
		return valueJoinToken, nil
	case *identity.Member:
		return valueMember, nil
	case *identity.SigningKey:
		return valueSigningKey, nil
	case *identity.Settings:
		return valueSettings, nil
	case *Purged:
		return valuePurged, nil
	case *Imported:
		return valueImported, nil
	case *identity.TrustedIssuer:
		return valueTrustedIssuer, nil
	case *identity.Policy:
		return valuePolicy, nil
	case *identity.Approval:
		return valueApproval, nil
	default:
		return 0, fmt.Errorf("BUG: a receipt holds a %T", v)
	}
}

func readValue(r *frameReader, kind valueKind) (any, error) {
	switch kind {
	case valueNone:
		return nil, nil
	case valueAgent:
		return read[identity.Agent](r)
	case valueAgentChange:
		return read[AgentChange](r)
	case valueCredential:
		return read[identity.Credential](r)
	case valueRevoked:
		return read[Revoked](r)
	case valuePrincipal:
		return read[identity.Principal](r)
	case valuePrincipalChange:
		return read[PrincipalChange](r)
	case valueApplication:
		return read[identity.Application](r)
	case valueRecord:
		wire, err := read[wireRecord](r)
		if err != nil {
			return nil, err
		}
		return wire.record()
	case valueDelegationChange:
		return read[DelegationChange](r)
	case valueAPIToken:
		return read[identity.APIToken](r)
	case valueJoinToken:
		return read[identity.JoinToken](r)
	case valueMember:
		return read[identity.Member](r)
	case valueSigningKey:
		return read[identity.SigningKey](r)
	case valueSettings:
		return read[identity.Settings](r)
	case valuePurged:
		return read[Purged](r)
	case valueImported:
		return read[Imported](r)
	case valueTrustedIssuer:
		return read[identity.TrustedIssuer](r)
	case valuePolicy:
		return read[identity.Policy](r)
	case valueApproval:
		return read[identity.Approval](r)
	default:
		return nil, fmt.Errorf("a receipt holds a value of unknown kind %d", kind)
	}
}

func writeReceipts(w *frameWriter, number section, queue *btree.BTreeG[*receipt]) {
	w.section(number)
	queue.Scan(func(r *receipt) bool {
		results, batch := r.result.Value.([]Result)
		if !batch {
			results = []Result{r.result}
		}
		w.record(&wireReceipt{
			ID: r.id[:], Fingerprint: r.fingerprint[:], Order: r.order, Time: r.time,
			Index: r.result.Index, Batch: batch, Results: len(results),
		})
		for _, result := range results {
			w.result(result)
		}
		return w.err == nil
	})
}

func (w *frameWriter) result(r Result) {
	kind, err := kindOfValue(r.Value)
	if err != nil && w.err == nil {
		w.err = err
	}
	w.record(&wireResult{Index: r.Index, Kind: kind, Err: r.Err})
	switch v := r.Value.(type) {
	case nil:
	case *record:
		wire := v.wire()
		w.record(&wire)
	default:
		w.record(v)
	}
}

func readReceipt(r *frameReader, into *window) error {
	wire, err := read[wireReceipt](r)
	if err != nil {
		return err
	}
	if wire.Results < 0 || wire.Results > MaxBatch || !wire.Batch && wire.Results != 1 {
		return fmt.Errorf("a receipt of %d results", wire.Results)
	}
	results := make([]Result, wire.Results)
	for i := range results {
		head, err := read[wireResult](r)
		if err != nil {
			return err
		}
		results[i] = Result{Index: head.Index, Err: head.Err}
		if results[i].Value, err = readValue(r, head.Kind); err != nil {
			return err
		}
	}
	receipt := &receipt{time: wire.Time, result: Result{Index: wire.Index, Value: results}}
	if !wire.Batch {
		receipt.result = results[0]
	}
	if err := errors.Join(copyExactly(receipt.id[:], wire.ID), copyExactly(receipt.fingerprint[:], wire.Fingerprint)); err != nil {
		return err
	}
	into.next = wire.Order
	into.add(receipt)
	return nil
}
