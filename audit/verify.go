package audit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
)

// Verify reads a log from its first to its last record and reports what is wrong with it. The log may be in use. An error
// means that it could not be read.
func Verify(ctx context.Context, dir string, o VerifyOptions) (*Report, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("verifying the audit log: %w", err)
	}
	return patiently(func() (*Report, error) { return verify(ctx, os.DirFS(dir), o) })
}

func verify(ctx context.Context, folder fs.FS, o VerifyOptions) (*Report, error) {
	v := &verifier{folder: folder, options: o, reader: bufio.NewReaderSize(nil, 2*MaxLine)}
	// The head comes first: the log of a running node grows meanwhile, and must not seem to fall short of it.
	if err := v.readHead(); err != nil {
		return nil, fmt.Errorf("verifying the audit log: reading its sealed head: %w", err)
	}
	if o.live != nil {
		v.sizes, v.written = o.live()
	}
	firsts, strays, err := segmentNames(folder)
	if err != nil {
		return nil, fmt.Errorf("verifying the audit log: %w", err)
	}
	for _, name := range strays {
		v.problem(Problem{File: name, Flaw: FlawStray, Detail: "it is named like a segment and is none"})
	}
	if v.sizes != nil {
		// What was begun or removed since the sizes were taken is left aside. But where it was removed before the folder was
		// read, the record that says so lies beyond what is read here.
		if now, _ := o.live(); oldest(now) != oldest(v.sizes) {
			return nil, fmt.Errorf("verifying the audit log: retention has removed segments meanwhile: %w", fs.ErrNotExist)
		}
		firsts = slices.DeleteFunc(firsts, func(first uint64) bool { _, ok := v.sizes[first]; return !ok })
	}
	v.summon(o.Checkpoints)
	for i, first := range firsts {
		if err := v.segment(ctx, first, i == len(firsts)-1); err != nil {
			return nil, fmt.Errorf("verifying the audit log: %s: %w", segmentName(first), err)
		}
		if v.broken {
			break
		}
	}
	v.finish(len(firsts) == 0)
	v.finishHead(len(firsts) == 0)
	return &v.report, nil
}

// verifier is one run of Verify.
type verifier struct {
	folder    fs.FS
	options   VerifyOptions
	reader    *bufio.Reader
	report    Report
	broken    bool                    // the chain is; what comes after it proves nothing
	witnesses map[uint64][]Checkpoint // by the record that they reach to
	sizes     map[uint64]int64        // of segments, where a running node says so
	written   mark                    // and where its log ends

	head     *sealedHead
	headErr  error  // why it can't be believed
	promised bool   // the log says that it has one
	signed   uint64 // the last record that a checkpoint in the log speaks of
	torn     bool   // the chain is broken by half a line at the very end only

	chain   chain
	removed uint64 // the last record that retention says is removed
	file    string
	line    int
	index   index
}

func (v *verifier) problem(p Problem) {
	if len(v.report.Problems) < maxProblems {
		v.report.Problems = append(v.report.Problems, p)
	}
}

// bad reports a record after which nothing can be believed.
func (v *verifier) bad(flaw Flaw, format string, args ...any) {
	v.broken = true
	v.problem(Problem{File: v.file, Line: v.line, Sequence: v.chain.sequence + 1, Flaw: flaw, Detail: fmt.Sprintf(format, args...)})
}

func (v *verifier) segment(ctx context.Context, first uint64, last bool) error {
	f, err := v.folder.Open(segmentName(first))
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	lines := io.Reader(f)
	if size, ok := v.sizes[first]; ok {
		lines = io.LimitReader(f, size)
	}
	r := v.reader
	r.Reset(lines)
	v.file, v.line, v.index = segmentName(first), 0, index{}
	if v.report.Records == 0 {
		v.chain.sequence = first - 1
		v.report.First = first
	}
	v.report.Segments++
	for !v.broken {
		if v.line%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		line, err := r.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			v.end(line, first, last)
			return nil
		}
		v.line++
		if errors.Is(err, bufio.ErrBufferFull) {
			v.bad(FlawMalformed, "the line is too long for a record")
			return nil
		}
		if err != nil {
			return err
		}
		v.record(line[:len(line)-1], first, r)
	}
	return nil
}

// end is reached where a segment has no more whole lines.
func (v *verifier) end(rest []byte, first uint64, last bool) {
	switch {
	case len(rest) > 0:
		v.line++
		v.torn = last
		v.bad(FlawTorn, "the line has no end; the last line of a log that is being written, or after a crash, may be so: then verify once more while the node runs")
	case v.line == 0 && last && v.report.Segments > 1:
		// A crash between making a file and writing into it; the next start removes it.
	case v.line == 0:
		v.bad(FlawEmpty, "the segment is empty")
	case !last && v.chain.tree.size > 0:
		v.line++
		v.bad(FlawTruncated, "the segment doesn't end with a checkpoint, as a finished one does")
	}
	if !v.broken && !last {
		v.checkIndex(first)
	}
}

// checkIndex compares the index that is kept of a finished segment with the one that its lines give.
func (v *verifier) checkIndex(first uint64) {
	kept, err := fs.ReadFile(v.folder, indexName(first))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil || !bytes.Equal(kept, v.index.encode()) {
		v.problem(Problem{
			File: indexName(first), Flaw: FlawIndex,
			Detail: "it isn't what the segment's records give; questions may miss some: remove the file, it is made again",
		})
	}
}

// record takes one line.
func (v *verifier) record(line []byte, segment uint64, ahead *bufio.Reader) {
	f, err := parseFrame(line)
	if err != nil {
		v.bad(FlawMalformed, "%v", err)
		return
	}
	if !f.intact() {
		v.bad(FlawChanged, "its content doesn't give its hash")
		return
	}
	if f.sequence != v.chain.sequence+1 {
		v.misplaced(&f, ahead)
		return
	}
	if f.prev != v.chain.head && v.report.Records > 0 {
		v.bad(FlawReplaced, "it doesn't continue the record before it: one of the two is not the one that was written")
		return
	}
	if v.line == 1 && !v.header(line, &f, segment) {
		return
	}
	if v.report.Records == 0 && !v.fitsHead(f.sequence-1, &f.prev) {
		return
	}
	if v.line > 1 && Kind(f.kind) == KindSegment {
		v.bad(FlawHeader, "the first record of a segment stands in the middle of one")
		return
	}
	if string(f.node) != `"`+v.report.Node+`"` {
		v.bad(FlawReplaced, "it is a record of node %s in the log of node %s", bytes.Trim(f.node, `"`), v.report.Node)
		return
	}
	switch Kind(f.kind) {
	case KindCheckpoint:
		if !v.checkpoint(line, &f) {
			return
		}
	case KindRetention:
		var r retention
		if err := unmarshalLine(line, &r); err != nil {
			v.bad(FlawMalformed, "%v", err)
			return
		}
		v.removed = max(v.removed, r.Through)
	case KindRecovered:
		if !v.headGivenUp(line) {
			return
		}
	}
	v.chain.follow(&f)
	v.index.add(line, &f)
	v.report.Records++
	v.report.Last, v.report.Head = f.sequence, f.hash
	v.report.Unsigned = uint64(v.chain.tree.size)
	if v.fitsHead(f.sequence, &f.hash) {
		v.witness()
	}
}

// misplaced words a record whose number isn't the next.
func (v *verifier) misplaced(f *frame, ahead *bufio.Reader) {
	expected := v.chain.sequence + 1
	switch {
	case f.sequence < expected && v.report.Records > 0 && f.hash == v.chain.head:
		v.bad(FlawRepeated, "record %d stands there twice", f.sequence)
	case f.sequence < expected:
		v.bad(FlawReordered, "record %d stands where %d should", f.sequence, expected)
	case nextIs(ahead, expected):
		v.bad(FlawReordered, "record %d stands before it", f.sequence)
	default:
		v.bad(FlawMissing, "records %d to %d are missing", expected, f.sequence-1)
	}
}

// nextIs reports whether the next line is the record that was expected.
func nextIs(ahead *bufio.Reader, sequence uint64) bool {
	for size := 1024; size <= ahead.Size(); size *= 2 {
		next, err := ahead.Peek(size)
		if _, _, f, bad := cutLine(next); bad == nil {
			return f.sequence == sequence
		}
		if err != nil {
			return false
		}
	}
	return false
}

func (v *verifier) header(line []byte, f *frame, segment uint64) bool {
	h, err := readHeader(line, f)
	switch node := string(bytes.Trim(f.node, `"`)); {
	case err != nil:
		v.bad(FlawHeader, "%v", err)
	case f.sequence != segment:
		v.bad(FlawHeader, "the file is named after record %d", segment)
	case f.sequence == 1 && f.prev != (Hash{}):
		v.bad(FlawHeader, "the first record of a log continues none")
	case v.report.Records == 0:
		v.promised = h.Sealed
		v.report.Node, v.report.Log, v.report.Began = node, h.Log, h.Began
		if _, ok := v.options.Keys[node]; !ok {
			v.problem(Problem{File: v.file, Flaw: FlawUnknownNode, Detail: fmt.Sprintf("there is no key of node %s, so its signatures can't be checked", node)})
		}
	case node != v.report.Node || h.Log != v.report.Log:
		v.bad(FlawHeader, "it is of log %s of node %s; the segment before it is of log %s of node %s", h.Log, node, v.report.Log, v.report.Node)
	default:
		v.promised = v.promised || h.Sealed
	}
	return !v.broken
}

func (v *verifier) checkpoint(line []byte, f *frame) bool {
	c, err := readCheckpoint(line, f)
	if err != nil {
		v.bad(FlawSignature, "%v", err)
		return false
	}
	v.report.Checkpoints++
	v.signed = c.Through
	switch size := uint64(v.chain.tree.size); {
	case c.Node != v.report.Node || c.Log != v.report.Log:
		v.bad(FlawSignature, "it is a checkpoint of log %s of node %s", c.Log, c.Node)
	case size == 0 || c.First != c.Through-size+1 || c.Root != v.chain.tree.root():
		v.bad(FlawSignature, "the checkpoint has signed other records than stand before it")
	default:
		key, known := v.options.Keys[c.Node]
		if err := c.Verify(key); known && err != nil {
			v.bad(FlawSignature, "%v", err)
		}
	}
	return !v.broken
}

// summon sorts out the checkpoints that can bear witness.
func (v *verifier) summon(all []Checkpoint) {
	v.witnesses = map[uint64][]Checkpoint{}
	for _, c := range all {
		if err := c.Verify(v.options.Keys[c.Node]); err != nil {
			v.report.Unusable++
			continue
		}
		v.witnesses[c.Through] = append(v.witnesses[c.Through], c)
	}
}

// witness compares the record just read with what others hold of it.
func (v *verifier) witness() {
	for _, c := range v.witnesses[v.chain.sequence] {
		switch {
		case c.Node != v.report.Node || c.Log != v.report.Log:
		case c.Head == v.chain.head:
			v.report.Witnessed++
		default:
			v.broken = true
			v.problem(Problem{
				File: v.file, Line: v.line, Sequence: c.Through, Flaw: FlawRewritten,
				Detail: fmt.Sprintf("a checkpoint of %s that is held elsewhere has another hash: records up to this one were replaced", c.Time),
			})
		}
	}
}

// finish looks at what is missing at either end.
func (v *verifier) finish(empty bool) {
	if empty {
		v.problem(Problem{Flaw: FlawEmpty, Detail: "there is no segment in the folder"})
		return
	}
	if v.broken {
		return
	}
	if v.report.First > 1 && v.removed < v.report.First-1 {
		v.problem(Problem{
			File: segmentName(v.report.First), Sequence: v.report.First, Flaw: FlawCutFront,
			Detail: fmt.Sprintf("records up to %d are missing; what retention has removed ends with %d", v.report.First-1, v.removed),
		})
	}
	v.missingEnd()
}

// missingEnd reports the furthest record that others have seen and that isn't here.
func (v *verifier) missingEnd() {
	var furthest *Checkpoint
	for _, all := range v.witnesses {
		for i := range all {
			c := &all[i]
			if c.Node != v.report.Node || (c.Log == v.report.Log && c.Through <= v.report.Last) {
				continue
			}
			if furthest == nil || compareCheckpoints(*c, *furthest) > 0 {
				furthest = c
			}
		}
	}
	switch {
	case furthest == nil:
	case furthest.Log != v.report.Log:
		v.problem(Problem{
			Sequence: furthest.Through, Flaw: FlawTruncated,
			Detail: fmt.Sprintf("a checkpoint of %s speaks of log %s, of which nothing is left here", furthest.Time, furthest.Log),
		})
	default:
		v.problem(Problem{
			File: v.file, Sequence: v.report.Last + 1, Flaw: FlawTruncated,
			Detail: fmt.Sprintf("the log ends with record %d, but a checkpoint of %s reaches to %d: records were cut off at the end",
				v.report.Last, furthest.Time, furthest.Through),
		})
	}
}
