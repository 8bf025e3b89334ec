package audit

import (
	"errors"
	"fmt"
	"io/fs"
)

// What Verify makes of the sealed head: whether it is the node's, whether the log reaches to it, and by the same records.

func (v *verifier) readHead() (err error) {
	v.head, err = readHead(v.folder, headFile)
	switch {
	case errors.Is(err, errBadHead):
		v.headErr = err
	case err != nil:
		return err
	case v.head != nil:
		if key, known := v.options.Keys[v.head.Node]; known && v.head.verify(key) != nil {
			v.headErr = errors.New("it isn't signed by the node's key")
			v.head = nil
		}
	}
	return nil
}

// fitsHead compares a record with the head, if that speaks of it.
func (v *verifier) fitsHead(sequence uint64, hash *Hash) bool {
	h := v.head
	if h == nil || sequence == 0 || h.Through != sequence || h.Head == *hash || h.Node != v.report.Node || h.Log != v.report.Log {
		return true
	}
	v.broken = true
	v.problem(Problem{
		File: v.file, Line: v.line, Sequence: sequence, Flaw: FlawRewritten,
		Detail: fmt.Sprintf("the head that the node sealed at %s has another hash: records up to this one were replaced", h.Time),
	})
	return false
}

// headGivenUp reports that the node went on without a head, which a record of kind recovered may say.
func (v *verifier) headGivenUp(line []byte) bool {
	var said headLoss
	if err := unmarshalLine(line, &said); err != nil {
		v.bad(FlawMalformed, "%v", err)
		return false
	}
	if said.Head == "" {
		return true
	}
	detail := "the log went on here without its sealed head: records may be missing before this one"
	if said.Through > 0 {
		detail += fmt.Sprintf("; the head that was given up was of record %d of log %s", said.Through, said.Log)
	}
	v.problem(Problem{File: v.file, Line: v.line, Sequence: v.chain.sequence + 1, Flaw: FlawHead, Detail: detail})
	return true
}

// finishHead looks at what is missing, or too much, at the end.
func (v *verifier) finishHead(empty bool) {
	flaw := func(flaw Flaw, sequence uint64, format string, args ...any) {
		p := Problem{File: headFile, Flaw: flaw, Detail: fmt.Sprintf(format, args...)}
		if sequence > 0 {
			p.File, p.Sequence = v.file, sequence
		}
		v.problem(p)
	}
	if _, err := fs.Stat(v.folder, headLost); err == nil {
		v.problem(Problem{File: headLost, Flaw: FlawHead, Detail: "somebody wants the log to go on without its sealed head; the next start of the node records that"})
	}
	h, last := v.head, v.report.Last
	switch live := v.written.sequence > 0 && (!v.broken || v.torn); {
	case live && last < v.written.sequence:
		flaw(FlawTruncated, last+1, "%s cut off: the running node has written them", recordsWere(last, v.written.sequence))
		return
	case live && last == v.written.sequence && v.report.Head != v.written.head:
		flaw(FlawRewritten, last, "the running node has written another record %d", last)
		return
	}
	switch {
	case v.headErr != nil:
		flaw(FlawHead, 0, "%v: nothing proves that no record is missing at the end of the log", v.headErr)
		return
	case h == nil && v.promised:
		flaw(FlawHead, 0, "it is missing, and with it the proof that no record is missing at the end of the log")
		return
	case h == nil:
		return
	case empty, v.torn && v.report.Records == 0: // a crash may come before the log is begun
		if h.Through > 0 {
			flaw(FlawTruncated, 0, "%s in log %s of node %s, as it sealed at %s", recordsWere(0, h.Through), h.Log, h.Node, h.Time)
		}
		return
	case v.broken && !v.torn:
		return
	case h.Node != v.report.Node || h.Log != v.report.Log:
		flaw(FlawHead, 0, "it is of log %s of node %s, the segments are of log %s of node %s", h.Log, h.Node, v.report.Log, v.report.Node)
		return
	}
	v.report.Sealed, v.report.Closed = h.Through, h.Closed
	switch {
	case h.Through > last && v.written.sequence == 0: // a running node may have sealed what came since
		flaw(FlawTruncated, last+1, "%s cut off: the log ends with record %d, and at %s the node sealed that it reaches to %d",
			recordsWere(last, h.Through), last, h.Time, h.Through)
	case h.Closed && h.Through < last && v.signed <= h.Through:
		flaw(FlawAdded, h.Through+1, "%s added after the node had closed the log at %s", recordsWere(h.Through, last), h.Time)
	}
}
