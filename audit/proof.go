package audit

import (
	"bufio"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Proof shows that one record stands in a node's log, to somebody who has the node's public key and nothing else of
// the log: the path from the record to the root that a checkpoint has signed. It is O(log n) long in the number of
// records between two checkpoints.
type Proof struct {
	Checkpoint Checkpoint `json:"checkpoint"`
	Sequence   uint64     `json:"sequence"`
	Path       []Hash     `json:"path"` // from the leaf up
	// Record is the line that is proven, as text: its exact bytes count.
	Record string `json:"record"`
}

// VerifyProof checks that line, a record as its JSON stands in a log or was exported, is in the log of the node whose
// key it is. For the record that the proof itself brings along, line may be nil.
func VerifyProof(p *Proof, line []byte, key ed25519.PublicKey) error {
	if line == nil {
		line = []byte(p.Record)
	}
	e, err := ParseEntry(line)
	if err != nil {
		return fmt.Errorf("the record: %w", err)
	}
	c := &p.Checkpoint
	if err := c.Verify(key); err != nil {
		return err
	}
	if e.Node != c.Node || e.Sequence != p.Sequence || p.Sequence < c.First || p.Sequence > c.Through {
		return fmt.Errorf("record %d of node %s is not what the proof for record %d of node %s is about", e.Sequence, e.Node, p.Sequence, c.Node)
	}
	root, ok := rootFromPath(&e.Hash, p.Sequence-c.First, c.Through-c.First+1, p.Path)
	if !ok || root != c.Root {
		return fmt.Errorf("the path doesn't lead from record %d to what checkpoint %d has signed", p.Sequence, c.Through)
	}
	return nil
}

// Prove makes the proof for one record. ErrNoCheckpoint: ask again when the next checkpoint is due.
func (l *Log) Prove(sequence uint64) (*Proof, error) {
	s, ok, _ := l.catalog.find(sequence)
	if !ok || s.first > sequence {
		return nil, fmt.Errorf("proving record %d: %w", sequence, ErrNoRecord)
	}
	return proveFile(os.DirFS(l.options.Dir), s.first, s.size, sequence)
}

// Prove makes the proof for one record from the folder of a log that need not be open.
func Prove(dir string, sequence uint64) (*Proof, error) {
	folder := os.DirFS(dir)
	firsts, _, err := segmentNames(folder)
	if err != nil {
		return nil, fmt.Errorf("proving record %d: %w", sequence, err)
	}
	of := uint64(0)
	for _, first := range firsts {
		if first <= sequence {
			of = first
		}
	}
	if of == 0 {
		return nil, fmt.Errorf("proving record %d: %w", sequence, ErrNoRecord)
	}
	return proveFile(folder, of, -1, sequence)
}

func proveFile(folder fs.FS, first uint64, size int64, sequence uint64) (*Proof, error) {
	f, err := folder.Open(segmentName(first))
	if err != nil {
		return nil, fmt.Errorf("proving record %d: %w", sequence, err)
	}
	defer f.Close() //nolint:errcheck // read only
	lines := io.Reader(f)
	if size >= 0 {
		lines = io.LimitReader(f, size)
	}
	p, err := prove(lines, sequence)
	if err != nil {
		return nil, fmt.Errorf("proving record %d: %w", sequence, err)
	}
	return p, nil
}

// prove looks for the record and the checkpoint after it. A segment ends with a checkpoint, so none has to be left for
// another.
func prove(lines io.Reader, sequence uint64) (*Proof, error) {
	r := bufio.NewReaderSize(lines, MaxLine)
	p := &Proof{Sequence: sequence}
	var leaves []Hash // since the last checkpoint
	for {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			if p.Record == "" {
				return nil, ErrNoRecord
			}
			return nil, ErrNoCheckpoint
		}
		if err != nil {
			return nil, err
		}
		line = line[:len(line)-1]
		f, err := parseFrame(line)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		if f.sequence == sequence {
			p.Record = string(line)
			if Kind(f.kind) == KindCheckpoint {
				return nil, fmt.Errorf("it is a checkpoint, which is signed itself: %w", ErrNoCheckpoint)
			}
		}
		if Kind(f.kind) != KindCheckpoint {
			leaves = append(leaves, f.hash)
			continue
		}
		if p.Record == "" {
			leaves = leaves[:0]
			continue
		}
		if p.Checkpoint, err = readCheckpoint(line, &f); err != nil {
			return nil, fmt.Errorf("%w: checkpoint %d: %w", ErrCorrupt, f.sequence, err)
		}
		if p.Checkpoint.First+uint64(len(leaves)) != p.Checkpoint.Through+1 || rootOf(leaves) != p.Checkpoint.Root {
			return nil, fmt.Errorf("%w: checkpoint %d has signed other records than stand before it; verify the log", ErrCorrupt, f.sequence)
		}
		p.Path = inclusionPath(int(sequence-p.Checkpoint.First), leaves)
		return p, nil
	}
}
