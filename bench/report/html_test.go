package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/bench/result"
)

// element is one of a parsed page.
type element struct {
	name     string
	attrs    map[string]string
	text     string // of its own
	children []*element
}

func (e *element) all(match func(*element) bool) []*element {
	var found []*element
	if match(e) {
		found = append(found, e)
	}
	for _, child := range e.children {
		found = append(found, child.all(match)...)
	}
	return found
}

func (e *element) named(name string) []*element {
	return e.all(func(e *element) bool { return e.name == name })
}

func (e *element) classed(name, class string) []*element {
	return e.all(func(e *element) bool { return e.name == name && e.attrs["class"] == class })
}

func (e *element) number(t *testing.T, attr string) float64 {
	t.Helper()
	f, err := strconv.ParseFloat(e.attrs[attr], 64)
	require.NoError(t, err, "%s of %s", attr, e.name)
	return f
}

// parsePage reads a page as XML, strictly: what is not well-formed there is not closed or not quoted in HTML either.
func parsePage(t *testing.T, page string) *element {
	t.Helper()
	decoder := xml.NewDecoder(strings.NewReader(page))
	root := &element{name: "#document"}
	open := []*element{root}
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		top := open[len(open)-1]
		switch token := token.(type) {
		case xml.StartElement:
			e := &element{name: token.Name.Local, attrs: map[string]string{}}
			for _, a := range token.Attr {
				require.NotContains(t, e.attrs, a.Name.Local, "given twice")
				e.attrs[a.Name.Local] = a.Value
			}
			top.children = append(top.children, e)
			open = append(open, e)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			top.text += string(token)
		}
	}
	require.Len(t, open, 1)
	return root
}

func pageOf(t *testing.T, r *result.Result) (string, *element) {
	t.Helper()
	var page bytes.Buffer
	require.NoError(t, HTML(&page, r))
	// PAGES=folder keeps what the tests draw, to be looked at.
	if dir := os.Getenv("PAGES"); dir != "" {
		require.NoError(t, os.WriteFile(filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "-")+".html"), page.Bytes(), 0o600))
	}
	return page.String(), parsePage(t, page.String())
}

func TestAPageNeedsNothingElse(t *testing.T) {
	for name, r := range map[string]*result.Result{"failover": failover(t), "search": search(t)} {
		t.Run(name, func(t *testing.T) {
			text, page := pageOf(t, r)
			require.Empty(t, page.all(func(e *element) bool {
				return strings.Contains(" script link img image iframe object embed use base form a foreignObject ", " "+e.name+" ")
			}))
			for _, e := range page.all(func(*element) bool { return true }) {
				for attr, value := range e.attrs {
					require.NotContains(t, []string{"href", "src", "style", "xlink", "action", "srcset"}, attr)
					require.False(t, strings.HasPrefix(attr, "on"), "%s=%q", attr, value)
				}
			}
			for _, style := range page.named("style") {
				require.NotContains(t, style.text, "url(")
				require.NotContains(t, style.text, "@import")
			}
			require.NotContains(t, text, "//", "no address of anything")
			require.NotContains(t, text, "ZgotmplZ", "the template refused a value")
			require.NotContains(t, text, "NaN")
			require.NotContains(t, text, "Inf")
		})
	}
}

func TestEveryPictureHasATitleADescriptionAndATable(t *testing.T) {
	_, page := pageOf(t, search(t))
	ids := map[string]bool{}
	for _, e := range page.all(func(e *element) bool { return e.attrs["id"] != "" }) {
		require.False(t, ids[e.attrs["id"]], "id %s is there twice", e.attrs["id"])
		ids[e.attrs["id"]] = true
	}
	pictures := 0
	for _, section := range page.named("section") {
		for _, svg := range section.named("svg") {
			pictures++
			require.Equal(t, "img", svg.attrs["role"])
			for id := range strings.FieldsSeq(svg.attrs["aria-labelledby"]) {
				require.True(t, ids[id], id)
			}
			require.Equal(t, "title", svg.children[0].name)
			require.NotEmpty(t, svg.children[0].text)
			require.Equal(t, "desc", svg.children[1].name)
			require.NotEmpty(t, svg.children[1].text)
			require.NotEmpty(t, section.named("table"), "beside %s", svg.children[0].text)
		}
	}
	require.Equal(t, 4, pictures, "over time, percentiles, ceilings, steps")
}

func TestHostileTextsAreShownAndNotObeyed(t *testing.T) {
	const hostile = `</title></svg><script>alert(1)</script>" onload="x' {{.}} <!-- &amp; ]]>`
	r := failover(t)
	for _, text := range []*string{
		&r.Workload, &r.About, &r.Environment.CPU, &r.Environment.Version, &r.Environment.Scheduling, &r.Environment.Fsync.Where, &r.Subjects[0].Name,
		&r.Subjects[0].Shares[0].Of, &r.Nodes[0].Name, &r.SLO.Text, &r.SLO.Objectives[0].Text, &r.Faults[0].Node, &r.Faults[0].Detail,
	} {
		*text = hostile + *text
	}
	r.Faults[0].What = hostile
	r.Command = append(r.Command, hostile)
	r.Notes, r.Verdict = []string{hostile}, result.Verdict{Reasons: []string{hostile}}
	r.Subjects[0].Errors[hostile] = 0

	text, page := pageOf(t, r)

	require.Empty(t, page.named("script"))
	require.NotContains(t, text, "<script")
	require.NotContains(t, text, "<!--")
	require.Empty(t, page.all(func(e *element) bool { _, is := e.attrs["onload"]; return is }))
	require.Contains(t, page.named("h1")[0].text, hostile, "it is shown as it is")

	var md, table bytes.Buffer
	require.NoError(t, Markdown(&md, 3, r))
	for line := range strings.Lines(md.String()) {
		if !strings.HasPrefix(line, "    ") { // code means itself
			require.NotContains(t, line, "<")
		}
	}
	r.Subjects[0].Name = "a\x1b]0;title\a\nb"
	require.NoError(t, Table(&table, r))
	require.NotContains(t, table.String(), "\x1b")
	require.NotContains(t, table.String(), "\a")
}

var pathPoint = regexp.MustCompile(`[ML](-?[0-9.]+) (-?[0-9.]+)`)

func points(t *testing.T, path *element) []point {
	t.Helper()
	var list []point
	for _, m := range pathPoint.FindAllStringSubmatch(path.attrs["d"], -1) {
		x, err := strconv.ParseFloat(m[1], 64)
		require.NoError(t, err)
		y, err := strconv.ParseFloat(m[2], 64)
		require.NoError(t, err)
		list = append(list, point{x, y})
	}
	return list
}

// ruler reads the values off a picture by its own labelled lines, as somebody with a ruler would.
func ruler(t *testing.T, svg *element, spell func(string) float64, from, to float64) func(y float64) float64 {
	t.Helper()
	var at, value []float64
	for _, tick := range svg.classed("text", "tick end") {
		if y := tick.number(t, "y") - 4; y >= from-1 && y <= to+1 {
			if v := spell(tick.text); !math.IsNaN(v) {
				at, value = append(at, y), append(value, v)
			}
		}
	}
	require.GreaterOrEqual(t, len(at), 2)
	last := len(at) - 1
	return func(y float64) float64 { return value[0] + (y-at[0])/(at[last]-at[0])*(value[last]-value[0]) }
}

func readCount(s string) float64 {
	f, err := strconv.ParseFloat(strings.ReplaceAll(s, ",", ""), 64)
	if err != nil {
		return math.NaN()
	}
	return f
}

func logOfLatency(s string) float64 {
	var f float64
	var unit string
	if _, err := fmt.Sscanf(s, "%f %s", &f, &unit); err != nil {
		return math.NaN()
	}
	factor, ok := map[string]float64{"µs": 1, "ms": 1e3, "s": 1e6}[unit]
	if !ok {
		return math.NaN()
	}
	return math.Log10(f * factor)
}

func TestWhatIsDrawnOverTimeIsWhatWasMeasured(t *testing.T) {
	r := failover(t)
	_, page := pageOf(t, r)
	svg := page.named("svg")[0]
	list := buckets(&r.Subjects[0])
	require.Len(t, list, 65, "five seconds of warm-up and sixty of measuring")

	completed := points(t, svg.classed("path", "curve s0")[0])
	require.Len(t, completed, len(list))
	rate := ruler(t, svg, readCount, topMargin, topMargin+rateHeight)
	for i, b := range list {
		require.InDelta(t, b.completed, rate(completed[i].y), 25, "second %v", b.t)
	}
	delayTop := float64(topMargin + rateHeight + panelGap)
	delay := ruler(t, svg, logOfLatency, delayTop, delayTop+delayHeight)
	for class, of := range map[string]func(bucket) float64{
		"curve s0 p50": func(b bucket) float64 { return b.p50 },
		"curve s1 p99": func(b bucket) float64 { return b.p99 },
		"curve s3 max": func(b bucket) float64 { return b.max },
	} {
		drawn := points(t, svg.classed("path", class)[0])
		require.Len(t, drawn, len(list), class)
		for i, b := range list {
			require.InEpsilon(t, of(b), math.Pow(10, delay(drawn[i].y)), 0.02, "%s at %v", class, b.t)
		}
	}
	require.Len(t, svg.classed("rect", "errors"), 2, "two seconds had errors")

	// Faults stand at their second, on the axis that the curves have.
	perSecond := (completed[len(completed)-1].x - completed[0].x) / (list[len(list)-1].t - list[0].t)
	zero := completed[0].x - (list[0].t+0.5)*perSecond
	for i, class := range []string{"mark gone", "mark leader", "mark back", "mark stalled"} {
		marks := svg.classed("circle", class)
		require.Len(t, marks, 1, class)
		require.InDelta(t, r.Faults[i].T, (marks[0].number(t, "cx")-zero)/perSecond, 0.05, class)
	}
	away := svg.classed("rect", "away gone")
	require.Len(t, away, 1)
	require.InDelta(t, 13, away[0].number(t, "width")/perSecond, 0.05, "killed at 20, started at 33")
}

func TestThePercentileCurveIsThatOfTheHistogram(t *testing.T) {
	r := failover(t)
	_, page := pageOf(t, r)
	svg := page.named("svg")[1]
	drawn := points(t, svg.classed("path", "curve s0")[0])
	want, err := r.Subjects[0].Latency.Curve()
	require.NoError(t, err)
	require.Len(t, drawn, len(want))
	delay := ruler(t, svg, logOfLatency, topMargin, topMargin+curveHeight)
	for i, p := range want {
		require.InEpsilon(t, p.Micros, math.Pow(10, delay(drawn[i].y)), 0.02, "%v %%", p.Percent)
	}
	nine := map[float64]float64{}
	for _, tick := range svg.classed("text", "tick middle") {
		percent, err := strconv.ParseFloat(strings.TrimSuffix(tick.text, " %"), 64)
		require.NoError(t, err)
		nine[percent] = tick.number(t, "x")
	}
	require.InDelta(t, nine[99]-nine[90], nine[99.9]-nine[99], 0.2, "each nine is as wide as the one before")
	require.Len(t, svg.classed("line", "limit met"), 1, "the service level's limit at p99")
}

func TestBarsAreAsLongAsTheirRates(t *testing.T) {
	r := failover(t)
	_, page := pageOf(t, r)
	svg := page.named("svg")[2]
	bars := svg.all(func(e *element) bool { return strings.HasPrefix(e.attrs["class"], "bar ") && e.name == "rect" })
	require.Len(t, bars, len(r.Subjects))
	scale := bars[1].number(t, "width") / r.Subjects[1].Rate
	for i := range r.Subjects {
		require.InDelta(t, r.Subjects[i].Rate*scale, bars[i].number(t, "width"), 0.2)
	}
	target := svg.classed("line", "target")
	require.Len(t, target, 1)
	require.InDelta(t, 0.85*5790*scale, target[0].number(t, "x1")-barLeft, 0.2)
	require.Contains(t, svg.classed("text", "value")[0].text, "86.2 % of handler + sign")
}

func TestAnInvalidRunSaysSoFirstAndLast(t *testing.T) {
	r := search(t)
	text, page := pageOf(t, r)
	require.Len(t, page.classed("div", "banner"), 2)
	require.True(t, strings.HasPrefix(page.named("title")[0].text, "INVALID"))
	require.Less(t, strings.Index(text, `class="banner"`), strings.Index(text, "<svg"))
	require.Greater(t, strings.LastIndex(text, `class="banner"`), strings.LastIndex(text, "<table"))
	for _, write := range []func(io.Writer, *result.Result) error{Table} {
		var out bytes.Buffer
		require.NoError(t, write(&out, r))
		require.True(t, strings.HasPrefix(out.String(), "INVALID: the generator"))
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		require.True(t, strings.HasPrefix(lines[len(lines)-1], "INVALID: the generator"))
	}
	var md bytes.Buffer
	require.NoError(t, Markdown(&md, 3, r))
	require.Equal(t, 2, strings.Count(md.String(), "**INVALID: the generator"))
	valid := failover(t)
	_, page = pageOf(t, valid)
	require.Empty(t, page.classed("div", "banner"))
}

func TestHowARunWasScheduledIsSaidWhereItIsNotAsUsual(t *testing.T) {
	spell := func(scheduling string) string {
		r := search(t)
		r.Environment.Scheduling = scheduling
		var table, md bytes.Buffer
		require.NoError(t, errors.Join(Table(&table, r), Markdown(&md, 3, r)))
		page, _ := pageOf(t, r)
		for _, text := range []string{table.String(), md.String(), page} {
			require.Equal(t, scheduling == "rr 1", strings.Contains(text, "scheduled as rr 1"))
			require.Equal(t, scheduling == "rr 1", strings.Contains(text, "rr 1, as chrt(1) has it"))
		}
		return table.String()
	}
	require.Equal(t, spell(""), spell(result.OrdinaryScheduling))
	spell("rr 1")
}

// The longest stall of a day-long run must not vanish because seconds are put together.
func TestPuttingSecondsTogetherHidesNoStall(t *testing.T) {
	r := failover(t)
	s := &r.Subjects[0]
	s.Series, s.WarmUp = nil, nil
	for second := range 24 * 3600 {
		p := result.Point{T: float64(second), Offered: 100, Completed: 100, P50: 400, P99: 900, Max: 1200}
		if second == 50_001 {
			p.P99, p.Max, p.Completed, p.Errors = 700_000, 900_000, 40, 60
		}
		s.Series = append(s.Series, p)
	}
	list := buckets(s)
	require.LessOrEqual(t, len(list), maxDrawn)
	worst, completed := 0.0, 0.0
	for _, b := range list {
		worst = max(worst, b.max)
		completed += b.completed * b.seconds
	}
	require.Equal(t, 900_000.0, worst)
	require.InDelta(t, 24*3600*100-60, completed, 1)
	text, _ := pageOf(t, r)
	require.Less(t, len(text), 400_000)
	require.Contains(t, text, "put together")
}

// Nothing that a result may hold, however little, makes a page that is not well-formed or that draws to nowhere.
func TestAResultWithHardlyAnythingIsDrawnToo(t *testing.T) {
	bare := &result.Result{
		Load: result.Load{Model: result.Closed}, Verdict: result.Verdict{Valid: true},
		Subjects: []result.Subject{{Name: "a", Role: result.RoleMeasured}, {Name: "b", Role: result.RoleCeiling, Latency: &result.Distribution{}}},
	}
	require.NoError(t, bare.Check())
	for what, with := range map[string]func(){
		"nothing":      func() {},
		"one second":   func() { bare.Subjects[0].Series = []result.Point{{T: 0}} },
		"one latency":  func() { bare.Subjects[0].Latency = recorded(t, 1, 1, 500, 0, 0) },
		"a lone step":  func() { bare.Load.Steps = []result.Step{{}} },
		"a lone fault": func() { bare.Faults = []result.Fault{{T: -3, What: "abducted"}} },
	} {
		with()
		text, _ := pageOf(t, bare)
		require.NotContains(t, text, "NaN", what)
		require.NotContains(t, text, "Inf", what)
		require.NoError(t, Table(io.Discard, bare))
		require.NoError(t, Markdown(io.Discard, 2, bare))
	}
}
