#!/usr/bin/env escript
%% Merges *.coverdata files and prints one JSON object: covered and countable lines, clauses and functions,
%% in all and for each module.
main(Files) ->
    {ok, Cover} = cover:start(),
    %% cover reports its doings to its group leader; standard output is for the result alone.
    true = group_leader(whereis(standard_error), Cover),
    [case cover:import(File) of
         ok -> ok;
         {error, Reason} ->
             io:format(standard_error, "~ts: ~tp~n", [File, Reason]),
             halt(2)
     end || File <- Files],
    Modules = [{Module, [{Level, covered(Module, Level)} || Level <- [line, clause, function]]}
               || Module <- lists:sort(cover:imported_modules())],
    Total = [{Level, sum([proplists:get_value(Level, Counts) || {_, Counts} <- Modules])}
             || Level <- [line, clause, function]],
    Entries = [[quoted(atom_to_list(Module)), ":", object(Counts)] || {Module, Counts} <- Modules],
    io:format("{\"total\":~s,\"modules\":{~ts}}~n", [object(Total), lists:join(",", Entries)]).

covered(Module, Level) ->
    {ok, Items} = cover:analyse(Module, coverage, Level),
    %% Line 0 is code that the compiler has generated.
    Hits = [Count > 0 || {Where, {Count, _}} <- Items, not generated(Level, Where)],
    {length([hit || true <- Hits]), length(Hits)}.

generated(line, {_, 0}) -> true;
generated(_, _) -> false.

sum(Pairs) ->
    lists:foldl(fun({A, B}, {C, D}) -> {A + C, B + D} end, {0, 0}, Pairs).

object(Counts) ->
    ["{", lists:join(",", [io_lib:format("\"~s\":[~b,~b]", [Level, Hit, All]) || {Level, {Hit, All}} <- Counts]), "}"].

quoted(Text) ->
    ["\"", [case C of $" -> "\\\""; $\\ -> "\\\\"; _ -> C end || C <- Text], "\""].
