package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/deputy-id/deputy/identity"
)

// A pack is an entry of the log that holds several commands, each as it would stand in an entry of its own:
//
//	version (1) | flags (1), none so far | count (2, big endian) | count × ( length (4, big endian) | entry )
//
// What an entry costs, from the leader's disk to the followers', is then paid once for all of them. They have the
// index of the entry in common, and no View shows some of them without the others; in every other way they are applied
// as if each stood alone. Packs are not nested.
const (
	packVersion  = 2
	packHead     = 4
	packedLength = 4

	// MaxPacked bounds the commands of a pack, and MaxCommandBytes its bytes, so that an entry means some milliseconds
	// of Apply. They are what is read; who writes packs stays far below.
	MaxPacked = 1024
)

// Pack makes one entry of the log of several, each made by Encode. One alone stays as it is.
func Pack(entries [][]byte) ([]byte, error) {
	if len(entries) == 1 {
		return entries[0], nil
	}
	if len(entries) == 0 || len(entries) > MaxPacked {
		return nil, fmt.Errorf("packing %d commands; a pack has 2 to %d", len(entries), MaxPacked)
	}
	size := packHead
	for _, entry := range entries {
		if isPack(entry) || len(entry) < envelopeBytes {
			return nil, errors.New("packing what is no single command")
		}
		size += packedLength + len(entry)
	}
	if size > MaxCommandBytes {
		return nil, fmt.Errorf("packing %d commands of %d bytes; at most %d are allowed", len(entries), size, MaxCommandBytes)
	}
	pack := make([]byte, packHead, size)
	pack[0] = packVersion
	binary.BigEndian.PutUint16(pack[2:], uint16(len(entries)))
	for _, entry := range entries {
		pack = binary.BigEndian.AppendUint32(pack, uint32(len(entry)))
		pack = append(pack, entry...)
	}
	return pack, nil
}

func isPack(entry []byte) bool { return len(entry) > 0 && entry[0] == packVersion }

// unpack takes a pack apart. It accepts one spelling only, as Decode does.
func unpack(pack []byte) ([][]byte, error) {
	if len(pack) > MaxCommandBytes {
		return nil, fmt.Errorf("a pack has %d bytes; at most %d are allowed", len(pack), MaxCommandBytes)
	}
	if len(pack) < packHead {
		return nil, fmt.Errorf("a pack has %d bytes, which is less than its head", len(pack))
	}
	if pack[1] != 0 {
		return nil, fmt.Errorf("a pack with flags %#x, which this build does not know", pack[1])
	}
	count := int(binary.BigEndian.Uint16(pack[2:]))
	if count < 2 || count > MaxPacked {
		return nil, fmt.Errorf("a pack of %d commands; it must have 2 to %d", count, MaxPacked)
	}
	entries := make([][]byte, count)
	rest := pack[packHead:]
	for i := range entries {
		if len(rest) < packedLength {
			return nil, fmt.Errorf("command %d of the pack is cut off", i)
		}
		length := uint64(binary.BigEndian.Uint32(rest))
		rest = rest[packedLength:]
		if length > uint64(len(rest)) {
			return nil, fmt.Errorf("command %d of the pack is cut off", i)
		}
		entries[i], rest = rest[:length:length], rest[length:]
		if isPack(entries[i]) {
			return nil, fmt.Errorf("command %d of the pack is a pack", i)
		}
	}
	if len(rest) > 0 {
		return nil, errTrailing
	}
	return entries, nil
}

// readable is a command as an entry says it, or why it is to be skipped.
type readable struct {
	Command
	skipped *UnknownError
}

// readCommand decodes a single command. The error means that this build must not go on.
func readCommand(entry []byte, s *shared) (readable, error) {
	c, err := decode(entry, s)
	var unknown *UnknownError
	if errors.As(err, &unknown) && unknown.Ignorable {
		return readable{skipped: unknown}, nil
	}
	return readable{Command: c}, err
}

// readPack decodes all commands of a pack: it is applied whole or not at all.
func readPack(pack []byte, s *shared) ([]readable, error) {
	entries, err := unpack(pack)
	if err != nil {
		return nil, err
	}
	commands := make([]readable, len(entries))
	for i, entry := range entries {
		if commands[i], err = readCommand(entry, s); err != nil {
			return nil, fmt.Errorf("command %d of a pack: %w", i, err)
		}
	}
	return commands, nil
}

// packed are the results of a pack. Only the leader looks at them, and only there they are shown: what a result holds
// is never modified.
type packed []Result

// Len is how many commands the pack had.
func (p packed) Len() int { return len(p) }

// At returns the Result of a command.
func (p packed) At(i int) any { return shown(p[i]) }

// applyPack applies the commands of a pack in their order. The response is their results, or one Result where the state
// machine has halted.
func (f *FSM) applyPack(entry *raft.Log) any {
	commands, err := readPack(entry.Data, &f.texts)
	if err != nil {
		return f.stop(entry.Index, err)
	}
	f.state.index = entry.Index
	results := make(packed, len(commands))
	for i := range commands {
		results[i] = f.applyCommand(&commands[i])
	}
	f.note(f.state)
	f.unpublished += len(commands)
	f.packed.Store(true)
	return results
}

// applyCommand applies one command at the index that the state has come to. The result is to be shown.
func (f *FSM) applyCommand(c *readable) Result {
	if c.skipped != nil {
		f.log.Warn("skipped a command of a newer build", "index", f.state.index, "type", uint16(c.skipped.Type))
		return Result{Index: f.state.index, Err: identity.Errorf(identity.CodeInvalid, "%v", c.skipped)}
	}
	result := f.state.apply(c.Command)
	f.metrics.count(c.Body.Type(), result)
	return result
}

// Packed reports whether this FSM has applied a pack: the builds of all who follow this log can read them then.
func (f *FSM) Packed() bool { return f.packed.Load() }

// Shares reports whether a command may stand in a pack, beside commands about other objects than the one that is named.
// A revision is the index of the last change, and whoever was answered one relies on it to tell that state of an agent,
// say, from a later one: so two changes of one object must not have one index. What is rare, or takes long to apply, is
// left alone.
func Shares(b Body) (object string, ok bool) {
	switch b := b.(type) {
	case Tick, CreateDelegation, WithdrawDelegation, CreateAPIToken, DeleteAPIToken:
		return "", true
	case Revoke:
		return "", b.stopsNoRow()
	case RequestApproval, DecideApproval, ConsumeApproval:
		return "approvals", true // whoever tells approvers of them goes by the index
	case CreateAgent:
		return "agent " + b.Agent.Name, true
	case UpdateAgent:
		return "agent " + b.Agent.Name, true
	case SetAgentStatus:
		return "agent " + b.Name, true
	case KillAgent:
		return "agent " + b.Name, true
	case AddCredential:
		return string(b.Owner.Kind) + " " + b.Owner.Name, true
	case RemoveCredential:
		return string(b.Owner.Kind) + " " + b.Owner.Name, true
	case CreatePrincipal:
		return "principal " + b.Principal.ID, true
	case UpdatePrincipal:
		return "principal " + b.Principal.ID, true
	case SetPrincipalStatus:
		return "principal " + b.ID, true
	case KillPrincipal:
		return "principal " + b.ID, true
	case CreateApplication:
		return "application " + b.Application.Name, true
	case UpdateApplication:
		return "application " + b.Application.Name, true
	default:
		return "", false
	}
}

// stopsNoRow reports whether all that is revoked are sessions and delegations: any other handle changes the agent, application
// or principal whose it is, whatever that is called.
func (r Revoke) stopsNoRow() bool {
	return !slices.ContainsFunc(r.Handles, func(h identity.Handle) bool {
		return !strings.HasPrefix(string(h), identity.PrefixSession) && !strings.HasPrefix(string(h), identity.PrefixDelegation)
	})
}

// Urgent reports whether a command must not wait behind others: it stops something, or keeps the cluster fresh.
func Urgent(b Body) bool {
	switch b.(type) {
	case Tick, DeleteApplication:
		return true
	case ConsumeApproval, Batch, Import, BeginRestore, EndRestore, OpenMinting, Recover:
		return false // each stops something by the way
	}
	return denies(b)
}
