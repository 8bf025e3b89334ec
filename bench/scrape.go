package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/deputy-id/deputy/bench/result"
)

// Bounds of a scrape.
const (
	scrapeTimeout = 3 * time.Second
	maxScrape     = 4 << 20
)

// opsListener is where a node tells its metrics.
type opsListener struct {
	Name string
	URL  string // base
}

// scraped is what a node says of itself at one moment.
type scraped struct {
	listener opsListener
	cpu      float64 // seconds
	rss      int64
	mallocs  float64
	requests float64
	started  float64 // Unix seconds
	leader   bool
	err      error // it could not be asked; then nothing else is known
}

// scrapeAll asks each node; one that does not answer is left unknown.
func scrapeAll(ctx context.Context, listeners []opsListener) []scraped {
	list := make([]scraped, len(listeners))
	for i, l := range listeners {
		list[i] = scrape(ctx, l)
	}
	return list
}

func scrape(ctx context.Context, l opsListener) scraped {
	s := scraped{listener: l}
	ctx, cancel := context.WithTimeout(ctx, scrapeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(l.URL, "/")+"/metrics", nil)
	if err != nil {
		s.err = err
		return s
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.err = err
		return s
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		s.err = fmt.Errorf("%s answered %s", request.URL, response.Status)
		return s
	}
	s.read(io.LimitReader(response.Body, maxScrape))
	return s
}

// read takes what it knows of the Prometheus text format: a name, perhaps labels, a value.
func (s *scraped) read(from io.Reader) {
	for lines := bufio.NewScanner(from); lines.Scan(); {
		line := lines.Text()
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || strings.HasPrefix(line, "#") {
			continue
		}
		name, _, _ := strings.Cut(line[:at], "{")
		value, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			continue
		}
		switch name {
		case "process_cpu_seconds_total":
			s.cpu = value
		case "process_resident_memory_bytes":
			s.rss = int64(value)
		case "go_memstats_mallocs_total":
			s.mallocs = value
		case "process_start_time_seconds":
			s.started = value
		case "deputy_api_requests_total":
			s.requests += value
		case "deputy_cluster_is_leader":
			s.leader = value == 1
		}
	}
}

// nodesOf is what each node did between two scrapes. One that was restarted in between began its counts anew, and one
// that could not be asked at both is left out.
func nodesOf(before, after []scraped) []result.Node {
	earlier := make(map[string]scraped, len(before))
	for _, s := range before {
		earlier[s.listener.Name] = s
	}
	var nodes []result.Node
	for _, s := range after {
		was, known := earlier[s.listener.Name]
		if s.err != nil || !known || was.err != nil {
			continue
		}
		if s.started != was.started {
			was = scraped{}
		}
		n := result.Node{
			Name: s.listener.Name, Requests: int64(s.requests - was.requests), CPU: s.cpu - was.cpu,
			RSS: s.rss, PeakRSS: max(s.rss, was.rss), Leader: s.leader,
		}
		if n.Requests > 0 {
			perOp, allocs := n.CPU/float64(n.Requests)*1e6, (s.mallocs-was.mallocs)/float64(n.Requests)
			n.PerOp, n.AllocsPer = &perOp, &allocs
		}
		nodes = append(nodes, n)
	}
	return nodes
}
