package fsm

import (
	"testing"

	"github.com/deputy-id/deputy/internal/racedetector"
)

func TestMain(m *testing.M) {
	racedetector.DrawFewer() // for what most of them draw is a sequence that one goroutine plays
	m.Run()
}
