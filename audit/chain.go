package audit

import (
	"crypto/sha256"
	"strconv"
)

// chain is where a log stands: its last record, and what has come since the last checkpoint. It is a value: the
// writer goes on with a copy and keeps it only once the write has succeeded.
type chain struct {
	sequence uint64 // of the last record
	head     Hash   // of the last record; zero before the first
	tree     tree   // of the records since the last checkpoint
}

// append appends the line of the next record and moves on. Node is the JSON string.
func (c *chain) append(dst, node, body []byte) []byte {
	dst = c.link(dst, node, body)
	c.tree.add(&c.head)
	return dst
}

// appendCheckpoint appends the line of a checkpoint, which is no leaf of any tree: it carries a signature of its own.
func (c *chain) appendCheckpoint(dst, node, body []byte) []byte {
	dst = c.link(dst, node, body)
	c.tree = tree{}
	return dst
}

func (c *chain) link(dst, node, body []byte) []byte {
	start := len(dst)
	dst = append(dst, partPrev...)
	dst = appendHash(dst, &c.head)
	dst = append(dst, partSeq...)
	c.sequence++
	dst = strconv.AppendUint(dst, c.sequence, 10)
	dst = append(dst, partNode...)
	dst = append(dst, node...)
	dst = append(dst, ',')
	dst = append(dst, body...)
	c.head = sha256.Sum256(dst[start:])
	dst = append(dst, partHash...)
	dst = appendHash(dst, &c.head)
	return append(dst, partEnd+"\n"...)
}

// follow takes over a record that stands in a log already.
func (c *chain) follow(f *frame) {
	c.sequence, c.head = f.sequence, f.hash
	if Kind(f.kind) == KindCheckpoint {
		c.tree = tree{}
		return
	}
	c.tree.add(&c.head)
}

// overhead is what a line adds to a body, at most.
func overhead(node []byte) int {
	const digits = 20
	return len(partPrev) + hexLength + len(partSeq) + digits + len(partNode) + len(node) + 1 + tailLength + 1
}
