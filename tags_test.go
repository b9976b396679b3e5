package main

import (
	"strings"
	"testing"
)

func TestTagLength(t *testing.T) {
	for text, want := range map[string]int{
		"<a>b":                    3,
		"</a >b":                  5,
		"<br/>":                   5,
		"<>":                      2,
		"</>":                     3,
		"<a-b.c d:e=1 f>g":        15,
		`<a b="c>d" e='f">' g=h>`: 23,
		"<a\n b = c\n>":           11,
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

// TestLinesOfOneTag: such a line is a block of HTML, unless it continues a paragraph.
func TestLinesOfOneTag(t *testing.T) {
	long := strings.Repeat("b='c' ", 100_000)
	for line, want := range map[string]bool{
		"<a>":                              true,
		"<Tabs>":                           true,
		"</Tabs>":                          true,
		"</Tabs >  ":                       true,
		"<>":                               true,
		"</>":                              true,
		"<br/>":                            true,
		"<a.b-c_d />":                      true,
		"<a b>":                            true,
		"<a b=c d='e' f=\"g\">":            true,
		"<A b={c} {...d}>":                 true,
		"<A b={{c: 1}}>":                   true,
		"<A b={[{c: 1}, {d: 2}]} e='f'>":   true,
		"<A b={f({x})} c={g(() => {1})}/>": true,
		"<a " + long + ">":                 true,
		"<A b={" + long + "}>":             true,
		"<a>b":                             false,
		"<a>b</a>":                         false,
		"<A b={c}>d</A>":                   false,
		"<a":                               false,
		"<a b=>":                           false,
		"<a b='c>":                         false,
		"<1>":                              false,
		"</1>":                             false,
		"</a b>":                           false,
		"</a b='c'>":                       false,
		"</a/>":                            false,
		"< a>":                             false,
		"<a " + long:                       false,
		"<https://a.b>":                    false,
	} {
		if got := isTagLine(line); got != want {
			t.Errorf("%.60q: %v", line, got)
		}
	}
}

// TestKindsOfHTMLBlocks: the numbers are those of CommonMark.
func TestKindsOfHTMLBlocks(t *testing.T) {
	for line, want := range map[string]uint8{
		"<pre>":              1,
		"<SCRIPT src=a>":     1,
		"<style":             1,
		"<textarea\tb>":      1,
		"</pre>":             7,
		"<prefix>":           7,
		"<!-- a":             2,
		"<?php":              3,
		"<!DOCTYPE html>":    4,
		"<![CDATA[":          5,
		"<div>":              6,
		"<DIV class=a>b":     6,
		"</div> text":        6,
		"<h1/>":              6,
		"<hr":                6,
		"<figcaption>":       6,
		"<blockquote\ta":     6,
		"<divide>":           7,
		"<h7>":               7,
		"<div-a>":            7,
		"<div/ >":            0,
		"<div/":              0,
		"<div/>":             6,
		"<blockquotes-long>": 7,
		"<b>a":               0,
		"<":                  0,
		"</":                 0,
	} {
		if got := htmlKind(line); got != want {
			t.Errorf("%q: %d, want %d", line, got, want)
		}
	}
}

func TestWhichTagsSeparateWords(t *testing.T) {
	for tag, want := range map[string]bool{
		"<td>":                 true,
		"</TD>":                true,
		"<br/>":                true,
		"<Tabs a={b}>":         true,
		"<my-element>":         true,
		"<b-button>":           true,
		"<AVeryLongComponent>": true,
		"<b>":                  false,
		"</B>":                 false,
		"<kbd class=a>":        false,
		"<>":                   false,
		"<!-- a -->":           false,
		"{/* a */}":            false,
		"<!DOCTYPE html>":      false,
	} {
		if got := separatesWords(tag); got != want {
			t.Errorf("%s: %v", tag, got)
		}
	}
}
