package main

import (
	"testing"
)

func TestHashedVectorHasLengthOneOrZero(t *testing.T) {
	for text, want := range map[string]float64{"hello world": 1, "": 0, "the of and": 0} {
		var sum float64
		for _, x := range hashedVector(text) {
			sum += float64(x) * float64(x)
		}
		if sum < want-1e-4 || sum > want+1e-4 {
			t.Errorf("|hashedVector(%q)|² = %v, want %v", text, sum, want)
		}
	}
}
