package audit

import (
	"crypto/ed25519"
	"fmt"

	"github.com/deputy-id/deputy/identity"
)

// VerifyOptions say by what a log is judged.
type VerifyOptions struct {
	// Keys are the public keys of nodes, from a source that whoever could have changed the log can't have changed.
	Keys map[string]ed25519.PublicKey
	// Checkpoints that others hold of this log, such as PeerCheckpoints at other nodes; those of other nodes are left
	// aside. They show whether the whole folder was put back to an earlier moment.
	Checkpoints []Checkpoint

	live func() (sizes map[uint64]int64, end mark) // what a running node knows of its log
}

// Flaw is how a log is wrong.
type Flaw string

// Flaws.
const (
	FlawMalformed   Flaw = "malformed"     // not a record at all
	FlawChanged     Flaw = "changed"       // the content doesn't give its hash
	FlawMissing     Flaw = "missing"       // records are missing before this one
	FlawReordered   Flaw = "reordered"     // it stands in the wrong place
	FlawRepeated    Flaw = "repeated"      // it stands there twice
	FlawReplaced    Flaw = "replaced"      // it doesn't continue the record before it, though its number does
	FlawHeader      Flaw = "header"        // a segment's first record isn't what it must be
	FlawSignature   Flaw = "bad-signature" // a checkpoint isn't the node's, or speaks of other records
	FlawTruncated   Flaw = "truncated"     // the sealed head, or a checkpoint that somebody holds, is of records that are not there
	FlawRewritten   Flaw = "rewritten"     // the sealed head, or a checkpoint that somebody holds, is of other records
	FlawAdded       Flaw = "added"         // there are records behind the end of a log that was closed
	FlawHead        Flaw = "head"          // the sealed head is missing, isn't the node's, or the node went on without it
	FlawCutFront    Flaw = "cut-front"     // old records are missing that no record of retention accounts for
	FlawTorn        Flaw = "torn"          // the last line has no end
	FlawStray       Flaw = "stray-file"    // a file that is no segment
	FlawIndex       Flaw = "index"         // the records are good, but an index hides some from questions
	FlawUnknownNode Flaw = "unknown-node"  // no key is given for the node
	FlawEmpty       Flaw = "empty"         // there is nothing
)

// Problem names the first bad record of its kind.
type Problem struct {
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"`     // counted from 1
	Sequence uint64 `json:"sequence,omitempty"` // of the record that was to be there
	Flaw     Flaw   `json:"flaw"`
	Detail   string `json:"detail"`
}

func (p *Problem) String() string {
	switch {
	case p.Line > 0:
		return fmt.Sprintf("%s line %d, record %d: %s: %s", p.File, p.Line, p.Sequence, p.Flaw, p.Detail)
	case p.File != "":
		return fmt.Sprintf("%s: %s: %s", p.File, p.Flaw, p.Detail)
	}
	return fmt.Sprintf("record %d: %s: %s", p.Sequence, p.Flaw, p.Detail)
}

// Report is what Verify found.
type Report struct {
	Node        string           `json:"node"`
	Log         string           `json:"log"`
	Began       identity.Instant `json:"began"`
	First       uint64           `json:"first"` // record that is still there
	Last        uint64           `json:"last"`
	Head        Hash             `json:"head"`
	Segments    int              `json:"segments"`
	Records     uint64           `json:"records"`
	Checkpoints int              `json:"checkpoints"` // in the log, all with good signatures unless Problems says otherwise
	Witnessed   int              `json:"witnessed"`   // checkpoints of others that agree
	Unusable    int              `json:"unusable"`    // of those that were given: without a good signature by a known key
	Unsigned    uint64           `json:"unsigned"`    // records at the end that no checkpoint covers yet
	Sealed      uint64           `json:"sealed"`      // the record that the sealed head reaches to; later ones could be cut off unseen
	Closed      bool             `json:"closed"`      // the head says that the log ends there
	Problems    []Problem        `json:"problems"`    // the first is where to begin; none: the log is whole
}

// OK reports whether nothing is wrong.
func (r *Report) OK() bool { return len(r.Problems) == 0 }

// maxProblems of one report; the first matters.
const maxProblems = 32
