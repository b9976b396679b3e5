package main

import "testing"

func TestHashedVectorHasLengthOneOrZero(t *testing.T) {
	tests := map[string]float64{
		"hello world": 1,
		"":            0,
		"the of and":  0,
	}
	for text, want := range tests {
		var squares float64
		for _, x := range hashedVector(text) {
			squares += float64(x) * float64(x)
		}
		if squares < want-1e-4 || squares > want+1e-4 {
			t.Errorf("|hashedVector(%q)|² = %v, want %v", text, squares, want)
		}
	}
}
