#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
#
# cri.pl SOCKET METHOD MESSAGE: one call of Kubernetes' container runtime
# interface (runtime.v1, by gRPC), as a kubelet makes it. MESSAGE is a list in
# Perl of field numbers and values: a text, \N for a number, or [...] for a
# message. Of the answer each field that is no message becomes
# a line "1.2 VALUE".
use strict;
use warnings;
use File::Temp qw(tempfile);

sub varint
{
	my ($n) = @_;
	my $out = '';

	while ($n >= 128) {
		$out .= chr(128 | $n & 127);
		$n >>= 7;
	}
	return $out . chr($n);
}

sub encode
{
	my @pairs = @_;
	my $out = '';

	while (my ($field, $value) = splice @pairs, 0, 2) {
		if (ref $value eq 'SCALAR') {
			$out .= varint($field << 3) . varint($$value);
			next;
		}
		$value = encode(@$value) if ref $value;
		$out .= varint($field << 3 | 2) . varint(length $value) . $value;
	}
	return $out;
}

sub take_varint
{
	my ($in) = @_;
	my ($n, $shift) = (0, 0);

	while ($$in =~ s/^(.)//s) {
		$n |= (ord($1) & 127) << $shift;
		return $n if ord($1) < 128;
		$shift += 7;
	}
	return undef;
}

# The lines of a message, or nothing: it is none.
sub decode
{
	my ($in, $path) = @_;
	my @lines;

	while (length $in) {
		my $key = take_varint(\$in) // return;
		my $at = $path . ($key >> 3);

		return if !($key >> 3) || ($key & 7) != 0 && ($key & 7) != 2;
		my $n = take_varint(\$in) // return;
		if (($key & 7) == 0) {
			push @lines, "$at $n";
			next;
		}
		return if $n > length $in;
		my $text = substr $in, 0, $n, '';
		push @lines, "$at $text" if $text =~ /^[[:print:]\s]*$/;
		push @lines, decode($text, "$at.");
	}
	return @lines;
}

my ($socket, $method, $message) = @ARGV;
my $request = encode(eval $message);
die $@ if $@;
my ($file, $name) = tempfile(UNLINK => 1);
print $file pack('CN', 0, length $request), $request;
close $file;
my $url = "http://localhost/runtime.v1.RuntimeService/$method";
open my $curl, '-|', 'curl', '-sS', '-i', '--http2-prior-knowledge', '--unix-socket', $socket,
	'-H', 'content-type: application/grpc', '-H', 'te: trailers', '--data-binary', "\@$name", $url
	or die "curl: $!";
local $/;
my ($head, $body) = split /\r\n\r\n/, <$curl>, 2;
close $curl;
$body //= '';
my $end = $head;
$end .= "\r\n$1" if $body =~ s/((?:grpc-[a-z-]+: [^\r\n]*\r\n)+(?:\r\n)?)$//s;
if ($end !~ /^grpc-status: 0\r?$/m) {
	my ($why) = $end =~ /^grpc-message: (.*?)\r?$/m;
	print STDERR "$method: ", $why // "no answer: $end", "\n";
	exit 1;
}
print map { "$_\n" } decode(substr($body, 5), '');
