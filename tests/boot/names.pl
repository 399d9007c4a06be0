#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
#
# names.pl ADDRESS [SERVER]: a name server at port 53 of ADDRESS, by UDP. It knows
# all names as 10.7.7.7, or asks SERVER; it tells which port has asked.
use strict;
use warnings;
use IO::Socket::INET;

$| = 1;
my ($address, $server) = @ARGV;
my $s = IO::Socket::INET->new(LocalAddr => $address, LocalPort => 53, Proto => 'udp')
	or die "$address: $!";
print "ready\n";
while (my $from = $s->recv(my $query, 4096)) {
	my ($port) = sockaddr_in($from);
	print "asked from $port\n";
	if ($server) {
		my $o = IO::Socket::INET->new(PeerAddr => $server, PeerPort => 53, Proto => 'udp')
			or next;
		$o->send($query);
		vec(my $ready = '', fileno($o), 1) = 1;
		next unless select($ready, undef, undef, 5);
		$o->recv(my $answer, 4096);
		$s->send($answer, 0, $from);
		next;
	}
	my $name = substr($query, 12);
	$name =~ s/\0.*//s;
	my $question = substr($query, 12, length($name) + 5);
	my $v4 = unpack('n', substr($question, -4)) == 1;
	$s->send(substr($query, 0, 2) . pack('n5', 0x8180, 1, $v4, 0, 0) . $question .
		($v4 ? pack('nnnNn', 0xc00c, 1, 1, 60, 4) . inet_aton('10.7.7.7') : ''), 0, $from);
}
