//go:build !linux

package load

import (
	"context"
	"errors"
)

// line is a connection of a loop, of which there are none here.
type line struct{}

func (*line) drop() {}

func (*Generator) loops() int { return 0 }

func (*openRun) inLoops(context.Context, int) (func(context.Context) error, func(), error) {
	return nil, nil, errors.New("loops need Linux")
}
