package load

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Bounds of a shape.
const (
	MaxRate   = 5_000_000 // a second; no machine that this runs on sends more
	MaxLength = 24 * time.Hour
)

// Shape says when requests are due: at a rate that goes evenly from one to another over the length.
type Shape struct {
	From, To float64 // a second
	Length   time.Duration
}

// Constant is a rate that stays.
func Constant(rate float64, length time.Duration) Shape {
	return Shape{From: rate, To: rate, Length: length}
}

// Validate says what is wrong with it.
func (s Shape) Validate() error {
	for _, rate := range []float64{s.From, s.To} {
		if !(rate > 0) || rate > MaxRate {
			return fmt.Errorf("rate is %g a second; it must be above 0 and at most %d", rate, MaxRate)
		}
	}
	if s.Length <= 0 || s.Length > MaxLength {
		return fmt.Errorf("the load lasts %s; it must last more than 0 s and at most %s", s.Length, MaxLength)
	}
	return nil
}

// Due is when the n-th request is due, counted from 0, since the beginning.
func (s Shape) Due(n uint64) time.Duration {
	if s.From == s.To {
		return time.Duration(float64(n) / s.From * float64(time.Second))
	}
	// Requests due by t are From·t + slope·t²/2; solved for t in the form that loses nothing where slope is small.
	slope := (s.To - s.From) / s.Length.Seconds()
	root := s.From*s.From + 2*slope*float64(n)
	if root < 0 { // a falling ramp that never offers so many
		return s.Length
	}
	return time.Duration(2 * float64(n) / (s.From + math.Sqrt(root)) * float64(time.Second))
}

// Offers is how many requests the shape has in all.
func (s Shape) Offers() float64 { return (s.From + s.To) / 2 * s.Length.Seconds() }

// errRate shows how a rate is written.
var errRate = errors.New("write a rate as 5000/s, 300/m or plainly 5000")

// ParseRate reads a rate such as 5000/s, 1.5k/s or 300/m. Without a unit it is a second's.
func ParseRate(text string) (float64, error) {
	number, unit, _ := strings.Cut(strings.TrimSpace(text), "/")
	seconds := 1.0
	switch strings.TrimSpace(unit) {
	case "", "s", "sec", "second":
	case "m", "min", "minute":
		seconds = 60
	default:
		return 0, fmt.Errorf("rate %q: unit %q is not known: %w", text, unit, errRate)
	}
	number = strings.ReplaceAll(strings.TrimSpace(number), ",", "")
	times := 1.0
	if short, ok := strings.CutSuffix(number, "k"); ok {
		number, times = short, 1000
	}
	rate, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, fmt.Errorf("rate %q: %q is not a number: %w", text, number, errRate)
	}
	rate = rate * times / seconds
	if !(rate > 0) || rate > MaxRate {
		return 0, fmt.Errorf("rate %q: it must be above 0 and at most %d a second", text, MaxRate)
	}
	return rate, nil
}

// ParseRamp reads a ramp such as "1000/s..10000/s over 60s".
func ParseRamp(text string) (Shape, error) {
	const form = "write a ramp as 1000/s..10000/s over 60s"
	rates, length, ok := strings.Cut(text, " over ")
	from, to, both := strings.Cut(rates, "..")
	if !ok || !both {
		return Shape{}, fmt.Errorf("ramp %q: %s", text, form)
	}
	var s Shape
	var err error
	if s.From, err = ParseRate(from); err != nil {
		return Shape{}, fmt.Errorf("ramp %q: %w", text, err)
	}
	if s.To, err = ParseRate(to); err != nil {
		return Shape{}, fmt.Errorf("ramp %q: %w", text, err)
	}
	if s.Length, err = time.ParseDuration(strings.TrimSpace(length)); err != nil {
		return Shape{}, fmt.Errorf("ramp %q: %q is not a duration: %s", text, length, form)
	}
	return s, s.Validate()
}
