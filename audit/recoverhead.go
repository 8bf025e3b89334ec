package audit

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const adviceHead = "copy the folder to where evidence is kept. To have the node go on with what is left, rename the file head to head.lost, " +
	"or make an empty file head.lost where there is no head, and start again: that is recorded in the log, and verifying shows it from then on"

func damagedHead(dir string, err error) error {
	return fmt.Errorf("%w: %s: %w; %s", ErrCorrupt, filepath.Join(dir, headFile), err, adviceHead)
}

// readHeads reads the sealed head, or sees that the log is to go on without.
func (r *recovered) readHeads(dir string, key ed25519.PublicKey) (err error) {
	folder := os.DirFS(dir)
	if r.head, err = readHead(folder, headFile); err != nil {
		if errors.Is(err, errBadHead) {
			return damagedHead(dir, err)
		}
		return fmt.Errorf("reading the sealed head of the audit log: %w", err)
	}
	_, err = fs.Stat(folder, headLost)
	switch given := err == nil; {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("looking for the sealed head of the audit log: %w", err)
	case given && r.head != nil:
		r.settled = true // a crash came before it was removed
	case given:
		r.headLost = true
		// What can't be read, or isn't the node's, says nothing.
		if r.lost, err = readHead(folder, headLost); err != nil || (r.lost != nil && r.lost.verify(key) != nil) {
			r.lost = nil
		}
	}
	return nil
}

// judgeHead holds the log against its sealed head. The log may be longer, as a crash leaves it, unless it was closed.
func (r *recovered) judgeHead(dir, node string, key ed25519.PublicKey) error {
	h := r.head
	if h == nil {
		if !r.headLost && r.state != nil && r.state.header.Sealed {
			return damagedHead(dir, errors.New("it is missing, and with it the proof that no record is missing at the end of the log"))
		}
		return nil // a log of an older program, a new one, or one that is to go on without
	}
	if h.Node != node || h.verify(key) != nil {
		return damagedHead(dir, errors.New("it is not signed by this node"))
	}
	if r.state == nil {
		if h.Through == 0 {
			return nil // a crash came before the log was begun
		}
		return damagedHead(dir, fmt.Errorf("%s in log %s, as the node sealed at %s, and there is no segment", recordsWere(0, h.Through), h.Log, h.Time))
	}
	last := r.state.chain.sequence
	switch {
	case h.Log != r.state.header.Log:
		return damagedHead(dir, fmt.Errorf("it is of log %s, the segments are of log %s", h.Log, r.state.header.Log))
	case h.Through > last:
		return damagedHead(dir, fmt.Errorf("%s cut off: the log ends with record %d, and at %s the node sealed that it reaches to %d",
			recordsWere(last, h.Through), last, h.Time, h.Through))
	case h.Closed && h.Through < last && !r.wentOn(key):
		return damagedHead(dir, fmt.Errorf("%s added after the node had closed the log at %s", recordsWere(h.Through, last), h.Time))
	}
	there, known, err := r.hashOf(dir, h.Through)
	if err != nil {
		return err
	}
	if known && there != h.Head {
		return damagedHead(dir, fmt.Errorf("record %d is not the one that the node sealed at %s", h.Through, h.Time))
	}
	return nil
}

// wentOn reports whether the node has signed records behind the head, as a program does that knows of no heads.
func (r *recovered) wentOn(key ed25519.PublicKey) bool {
	c := r.state.newest
	return c != nil && c.Through > r.head.Through && c.Verify(key) == nil
}

// hashOf returns the hash of a record that is there, which it isn't once retention has removed it. As a rule the record
// is of the last segment, or the one before it; it is further back where sealing has failed for long.
func (r *recovered) hashOf(dir string, sequence uint64) (h Hash, known bool, err error) {
	s := r.state
	switch {
	case sequence == 0:
		return Hash{}, true, nil
	case sequence >= s.first:
		return s.watched, true, nil
	case sequence == s.first-1:
		return s.before, true, nil
	}
	for _, older := range r.segments {
		if older.first <= sequence && sequence <= older.last {
			read, err := readSegment(filepath.Join(dir, segmentName(older.first)), older.first, sequence)
			if err != nil {
				return Hash{}, false, err
			}
			return read.watched, true, nil
		}
	}
	return Hash{}, false, nil
}
