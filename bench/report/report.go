// Package report shows what a benchmark found: a table for the terminal and a line while it runs, Markdown for a
// repository, and one self-contained page of HTML with its pictures drawn as SVG.
//
// All of them are made from a result.Result and nothing else, so that a result from a file looks like one that was
// just found. Names and notes in it may come from a server or from somebody else's file: they are escaped where
// HTML or Markdown would read them, and stripped of control characters on a terminal.
package report
