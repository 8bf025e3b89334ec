package result

import (
	"errors"
	"fmt"
	"slices"
)

// Bounds of a result, far above what a run makes.
const (
	maxSubjects = 1000
	maxPoints   = 7 * 24 * 3600
	maxFaults   = 100_000
)

// Check finds what no run can have found, so that nothing is drawn from a file that contradicts itself.
func (r *Result) Check() error {
	if len(r.Subjects) == 0 {
		return errors.New("it has no subject")
	}
	if len(r.Subjects) > maxSubjects || len(r.Faults) > maxFaults {
		return fmt.Errorf("it has %d subjects and %d faults; at most %d and %d are read", len(r.Subjects), len(r.Faults), maxSubjects, maxFaults)
	}
	if r.Load.Model != Open && r.Load.Model != Closed {
		return fmt.Errorf("its load is %q; it must be %s or %s", r.Load.Model, Open, Closed)
	}
	if !r.Verdict.Valid && len(r.Verdict.Reasons) == 0 {
		return errors.New("it is invalid without a reason")
	}
	names := make(map[string]bool)
	for i := range r.Subjects {
		s := &r.Subjects[i]
		if s.Name == "" || names[s.Name] {
			return fmt.Errorf("subject %d has no name of its own: %q", i+1, s.Name)
		}
		names[s.Name] = true
		if err := s.check(); err != nil {
			return fmt.Errorf("subject %q: %w", s.Name, err)
		}
	}
	return nil
}

func (s *Subject) check() error {
	c := s.Counts
	for _, n := range []int64{c.Offered, c.Sent, c.Completed, c.Failed, c.Late, c.Skipped} {
		if n < 0 {
			return errors.New("a count is negative")
		}
	}
	if c.Offered != c.Sent+c.Skipped {
		return fmt.Errorf("%d requests were offered, but %d sent and %d skipped", c.Offered, c.Sent, c.Skipped)
	}
	if c.Sent != c.Completed+c.Failed {
		return fmt.Errorf("%d requests were sent, but %d completed and %d failed", c.Sent, c.Completed, c.Failed)
	}
	if c.Late > c.Sent {
		return fmt.Errorf("%d requests were late, but %d sent", c.Late, c.Sent)
	}
	var errorCount int64
	for kind, n := range s.Errors {
		if n < 0 {
			return fmt.Errorf("error %q was counted %d times", kind, n)
		}
		errorCount += n
	}
	if errorCount != c.Failed {
		return fmt.Errorf("%d requests failed, but its errors add up to %d", c.Failed, errorCount)
	}
	if s.Rate < 0 || s.Seconds < 0 {
		return errors.New("its rate or its time is negative")
	}
	if len(s.Series) > maxPoints {
		return fmt.Errorf("its series has %d points; at most %d are read", len(s.Series), maxPoints)
	}
	if !slices.IsSortedFunc(s.Series, func(a, b Point) int {
		if a.T < b.T {
			return -1
		}
		return 1
	}) {
		return errors.New("its series is out of order")
	}
	return nil
}

// Wrong counts the answers that a correct server can't give.
func (s *Subject) Wrong() int64 {
	var n int64
	for kind, count := range s.Errors {
		if IsWrong(kind) {
			n += count
		}
	}
	return n
}

// IsWrong tells a wrong answer from none.
func IsWrong(kind string) bool {
	return len(kind) > len(wrongPrefix) && kind[:len(wrongPrefix)] == wrongPrefix
}

// Measured are the subjects that the run is about.
func (r *Result) Measured() []*Subject { return r.withRole(RoleMeasured) }

// Ceilings are the subjects that those can't be faster than.
func (r *Result) Ceilings() []*Subject { return r.withRole(RoleCeiling) }

func (r *Result) withRole(role Role) []*Subject {
	var list []*Subject
	for i := range r.Subjects {
		if r.Subjects[i].Role == role {
			list = append(list, &r.Subjects[i])
		}
	}
	return list
}

// Subject returns the one of a name, or nil.
func (r *Result) Subject(name string) *Subject {
	for i := range r.Subjects {
		if r.Subjects[i].Name == name {
			return &r.Subjects[i]
		}
	}
	return nil
}
