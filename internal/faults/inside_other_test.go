//go:build !linux

package faults

import "errors"

const (
	robustnessWanted = "1"
	robustnessInside = "inside"
)

func moveInside() (int, error) {
	return 1, errors.New("this suite needs Linux: it makes network namespaces")
}

func settleInside() error { return errors.New("this suite needs Linux") }
