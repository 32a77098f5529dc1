# SPDX-License-Identifier: BSD-2-Clause
# Regular expressions, hashes, sorting, string building, numbers.
use strict;
my ($turns, $file) = @ARGV;
open(my $f, '<', $file) or die "$file: $!";
read($f, my $text, 400000);
my $sum = 0;
for my $turn (1 .. $turns) {
    my %count;
    $count{lc $1}++ while $text =~ /([A-Za-z_]{3,})/g;
    my @top = sort { $count{$b} <=> $count{$a} or $a cmp $b } keys %count;
    $sum += $count{$top[$_]} * $_ for 0 .. 99;
    my $s = join ',', map { "$_=$count{$_}" } @top[0 .. 200];
    $s =~ s/(\w+)=(\d+)/$2 + $turn/ge;
    $sum += length $s;
    my @fib = (0, 1);
    push @fib, ($fib[-1] + $fib[-2]) % 1000003 for 1 .. 5000;
    $sum += $fib[-1];
    substr($text, $turn * 37, 1) = 'Q';
}
print "$sum\n";
