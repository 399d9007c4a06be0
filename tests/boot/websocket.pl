#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
#
# websocket.pl PORT PATH [TEXT]: a stream of a kubelet's (exec, portForward) as a
# client of Kubernetes' has it: by WebSocket over TLS, to the loopback. TEXT,
# with \r and \n, is sent on channel 0. What comes is printed, each line with
# the number of its channel in front, until the other end closes.
use strict;
use warnings;
use IPC::Open2 qw(open2);

$| = 1;
$SIG{PIPE} = 'IGNORE';
my ($port, $path, $text) = @ARGV;
my $pid = open2(my $in, my $out, 'openssl', 's_client', '-quiet', '-connect', "127.0.0.1:$port");
binmode $in;
binmode $out;

sub take
{
	my ($bytes) = @_;
	my $data = '';

	while (length $data < $bytes) {
		sysread $in, $data, $bytes - length $data, length $data or return;
	}
	return $data;
}

sub give
{
	my ($data) = @_;

	syswrite $out, $data;
}

# A message with CHANNEL's data: [kind, data], nothing at the end.
sub take_message
{
	my $head = take(2) // return;
	my ($kind, $bytes) = unpack 'CC', $head;

	$bytes &= 127;
	$bytes = unpack 'n', take(2) // return if $bytes == 126;
	$bytes = unpack 'Q>', take(8) // return if $bytes == 127;
	my $data = $bytes ? take($bytes) // return : '';
	return [$kind & 15, $data];
}

give(join "\r\n", "GET $path HTTP/1.1", 'Host: localhost', 'Upgrade: websocket',
	'Connection: Upgrade', 'Sec-WebSocket-Version: 13',
	'Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==',
	'Sec-WebSocket-Protocol: v4.channel.k8s.io', '', '');
my $head = '';
$head .= take(1) // die "websocket: no answer: $head" until $head =~ /\r\n\r\n$/;
die "websocket: $head" if $head !~ m|^HTTP/1.1 101 |;
if (defined $text) {
	$text =~ s/\\([rn])/$1 eq 'r' ? "\r" : "\n"/ge;
	# A client's messages are masked; zeros change nothing.
	give(pack('CCnN', 0x82, 0x80 | 126, 1 + length $text, 0) . "\0$text");
}
my %line;
while (my $message = take_message()) {
	my ($kind, $data) = @$message;

	last if $kind == 8;
	next if $kind > 2 || !length $data;
	my $channel = ord $data;
	$line{$channel} .= substr $data, 1;
	print "$channel $1\n" while $line{$channel} =~ s/^(.*?)\r?\n//;
}
print "$_ $line{$_}\n" for grep { length $line{$_} } sort keys %line;
kill 'TERM', $pid;
waitpid $pid, 0;
