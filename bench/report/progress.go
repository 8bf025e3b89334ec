package report

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	// redrawEvery is how often a line on a terminal changes: often enough to seem alive, seldom enough to be read.
	redrawEvery = 200 * time.Millisecond
	// repeatEvery is how often a plain line is written where nothing can be redrawn, such as in a log of a pipeline.
	repeatEvery = 5 * time.Second
	// clearLine goes back to the start of the line and empties it.
	clearLine = "\r\x1b[K"
)

// Tick is how a run stands. What is zero is not shown.
type Tick struct {
	Phase     string        // such as "warm-up", "measuring" or "step 3"
	Subject   string        // under load
	Elapsed   time.Duration // of the phase
	Total     time.Duration // of the phase
	Offered   float64       // due a second
	Rate      float64       // completed a second, lately
	P50       time.Duration // lately
	P99       time.Duration // lately
	Errors    int64         // so far
	Late      int64         // so far
	Skipped   int64         // so far
	Generator float64       // share of the generator's CPUs, lately
}

func (t *Tick) line() string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	add("%s", strings.TrimSpace(t.Phase+" "+t.Subject))
	if t.Total > 0 {
		add("%.0f/%.0f s", t.Elapsed.Seconds(), t.Total.Seconds())
	}
	switch {
	case t.Offered > 0:
		add("%s of %s/s", Count(t.Rate), Count(t.Offered))
	case t.Rate > 0:
		add("%s/s", Count(t.Rate))
	}
	if t.P99 > 0 {
		add("p50 %s p99 %s", Latency(float64(t.P50.Nanoseconds())/1e3), Latency(float64(t.P99.Nanoseconds())/1e3))
	}
	for _, n := range []struct {
		what string
		n    int64
	}{{"errors", t.Errors}, {"late", t.Late}, {"skipped", t.Skipped}} {
		if n.n > 0 {
			add("%s %s", Count(float64(n.n)), n.what)
		}
	}
	if t.Generator > 0 {
		add("generator %s", Percent(t.Generator))
	}
	return strings.Join(parts, " · ")
}

// Progress shows how a run stands while it runs: one line that is redrawn on a terminal, and elsewhere a line every
// five seconds. A nil Progress shows nothing. It is also the writer for whatever else goes to the same place, so that
// messages and the line don't run into each other. It may be used by several goroutines.
type Progress struct {
	lock     sync.Mutex
	w        io.Writer
	width    int // columns of the terminal; 0 where there is none
	now      func() time.Time
	last     time.Time // drawn
	line     string    // on the screen; "" where there is none
	lastKind string    // phase and subject of the last line
}

// NewProgress makes one that writes to w, which is a terminal of so many columns, or none if width is 0.
func NewProgress(w io.Writer, width int, now func() time.Time) *Progress {
	return &Progress{w: w, width: width, now: now}
}

// Show draws the tick, unless the last one was drawn just now. On a terminal a new phase or subject is always drawn.
func (p *Progress) Show(t Tick) {
	if p == nil {
		return
	}
	p.lock.Lock()
	defer p.lock.Unlock()
	now, kind, every := p.now(), t.Phase+"\x00"+t.Subject, repeatEvery
	if p.width > 0 {
		every = redrawEvery
	}
	fresh := p.last.IsZero() || p.width > 0 && kind != p.lastKind
	if !fresh && now.Sub(p.last) < every {
		return
	}
	p.last, p.lastKind = now, kind
	line := plain(t.line())
	if p.width == 0 {
		p.write(line + "\n")
		return
	}
	p.line = fit(line, p.width-1) // in the last column some terminals wrap
	p.write(clearLine + p.line)
}

// Event writes a line that stays, such as that a node was killed.
func (p *Progress) Event(format string, args ...any) {
	if p != nil {
		_, _ = p.Write([]byte(plain(fmt.Sprintf(format, args...)) + "\n"))
	}
}

// Write writes whole lines above the progress line.
func (p *Progress) Write(text []byte) (int, error) {
	if p == nil {
		return len(text), nil
	}
	p.lock.Lock()
	defer p.lock.Unlock()
	if p.line == "" {
		return p.w.Write(text)
	}
	if _, err := io.WriteString(p.w, clearLine); err != nil {
		return 0, err
	}
	n, err := p.w.Write(text)
	if err == nil {
		_, err = io.WriteString(p.w, p.line)
	}
	return n, err
}

// Or is the writer for whatever goes to the same place as the progress: itself, or w where there is none.
func (p *Progress) Or(w io.Writer) io.Writer {
	if p == nil {
		return w
	}
	return p
}

// Done removes the line.
func (p *Progress) Done() {
	if p == nil {
		return
	}
	p.lock.Lock()
	defer p.lock.Unlock()
	if p.line != "" {
		p.line = ""
		p.write(clearLine)
	}
}

// write drops the error: a run doesn't end because nobody watches it any more.
func (p *Progress) write(text string) { _, _ = io.WriteString(p.w, text) }

// fit cuts a line to so many columns, and shows that it did.
func fit(line string, columns int) string {
	if utf8.RuneCountInString(line) <= columns {
		return line
	}
	if columns < 1 {
		return ""
	}
	return string([]rune(line)[:columns-1]) + "…"
}
