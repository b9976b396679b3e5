package main

import "testing"

func TestTagLength(t *testing.T) {
	for text, want := range map[string]int{
		"<a>b":                    3,
		"</a >b":                  5,
		"<br/>":                   5,
		"<>":                      2,
		"</>":                     3,
		"<a-b.c d:e=1 f>g":        15,
		`<a b="c>d" e='f">' g=h>`: 23,
		"<a\n b = c\n>":           12,
		"<A b={c > d} {...e} />f": 22,
		"<A b={{c: {d}}} e>f":     18,
		"<A {{ b }}>":             11,
		"<a b={c}d>":              0,
		`<a b="c"d>`:              0,
		`<a b="c>`:                0,
		"<a b=>":                  0,
		"<a b={c>":                0,
		"<1>":                     0,
		"< a>":                    0,
		"<a <b>":                  0,
		"<a b":                    0,
		"<":                       0,
		"</":                      0,
	} {
		if got := tagLength(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}
